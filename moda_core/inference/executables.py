"""Executables: models in the form in which they answer fastest.

Pixels go in, logits come out. The plain form runs a model's network as it is; the others run a folded
copy, in float32 or bfloat16, packed for the processor, by ONNX Runtime, compiled or captured as CUDA graphs. Which one is right for a
model is measured once (`forms.choose`); building a given form takes milliseconds, compiled and captured ones excepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from moda_core.errors import InvalidInput
from moda_core.inference.capture import Captured, repeated
from moda_core.inference.components import Apart, Component, Patched, inputs_of
from moda_core.inference.folding import fold
from moda_core.inference.graphs import Calls, calls_of, traced_calls, with_sizes
from moda_core.inference.packing import can_pack, pack
from moda_core.modularity.models import Model, ModularModel, PatchedModel, TrainedModel
from moda_core.modularity.networks import network
from moda_core.specs import InputSpec
from moda_core.structure.sliced import SlicedModel
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.surroundings import full_float32

__all__ = [
    "FORMS",
    "KINDS",
    "Executable",
    "Form",
    "can_lower",
    "check_form",
    "executable",
    "lowered_component",
    "on_device",
    "reference",
    "rewrite_of",
]

Form = Literal["plain", "folded", "packed", "onnxruntime", "bf16", "compiled", "captured"]
FORMS: tuple[Form, ...] = get_args(Form)
KINDS: Mapping[Form, torch.dtype] = dict.fromkeys(FORMS, torch.float32) | {"bf16": torch.bfloat16}
"""The type in which each form computes."""

_COMPILED_FOR = (1, 2, 32)
"""A batch of one is compiled apart, and on CPUs those of 16 and more, for which convolutions may take another path."""


class Executable:
    """A model on its device, ready to answer; calls from several threads do not disturb each other.

    Compiled, it has met batches of every kind when it is made, so that no caller waits for the compiler.

    Args:
        module: on `device`.
        more: what it is called with beside pixels, for one sample.

    Attributes:
        labels: one per logit.
        inputs: one per pixels of a call: a patched model has one per component.
        form: how it computes.
        size_bytes: of its parameters and buffers, of networks apart from torch, and of the memory of recorded graphs.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        labels: tuple[str, ...],
        inputs: tuple[InputSpec, ...],
        form: Form,
        device: torch.device | str,
        more: tuple[Tensor, ...] = (),
    ) -> None:
        self.labels, self.inputs, self.form, self.device = labels, inputs, form, torch.device(device)
        self.size_bytes = _size_bytes(module)
        self._run: Callable[..., Tensor] = module
        if form == "compiled":
            self._run = _compiled(module)
            for count in _COMPILED_FOR:
                self._answer(*(repeated(one, count).to(device) for one in (*map(_blank, inputs), *more)))
        elif form == "captured":
            captured = Captured(module, (*map(_blank, inputs), *more), self.device)
            self._run, self.size_bytes = captured, self.size_bytes + captured.size_bytes

    def __call__(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float32[Tensor, "batch classes"]:
        """Logits of images already fitted to `inputs`, on the executable's device."""
        return self._answer(*pixels)

    def _answer(self, *given: Tensor) -> Float32[Tensor, "batch classes"]:
        if isinstance(self._run, Apart):
            logits: Tensor = self._run.forward(*given)
            return logits
        with torch.inference_mode():
            if self.device.type == "cpu":  # nothing more: for a small network each call beside it counts
                return self._run(*given).to(torch.float32)
            with full_float32():
                return self._run(*(one.to(self.device) for one in given)).to(torch.float32)


def executable(model: Model, form: Form = "folded", device: torch.device | str = "cpu") -> Executable:
    """A model in one form.

    Raises:
        Untraceable: in another form than ``plain``, for a network that cannot be traced.
        InvalidInput: for a form that the device, or the network, does not have.
    """
    check_form(form, device)
    if form == "plain":
        plain = network(model, device)
        return Executable(plain, labels=plain.labels, inputs=plain.inputs, form=form, device=device)
    built = on_device(_built(model, KINDS[form], partial(_rewritten, form)), device)
    return Executable(built, labels=model.labels, inputs=inputs_of(model), form=form, device=device)


def check_form(form: Form, device: torch.device | str) -> None:
    """Whether a device has a form.

    Raises:
        InvalidInput: if not.
    """
    if form == "captured" and torch.device(device).type != "cuda":
        raise InvalidInput("form", form, "CUDA graphs need a CUDA device", "choose folded")
    if form == "packed" and not can_pack(device):
        raise InvalidInput("form", form, "weights are packed for CPUs, by a torch with oneDNN", "choose folded")
    if form == "onnxruntime" and not can_lower(device):
        raise InvalidInput("form", form, "it needs a CPU, and onnx and onnxruntime installed", "choose folded")


def can_lower(device: torch.device | str) -> bool:
    """Whether ONNX Runtime can run networks there."""
    return torch.device(device).type == "cpu" and all(map(find_spec, ("onnx", "onnxruntime")))


def rewrite_of(form: Form) -> Callable[[Calls], None]:
    """How the calls of a network are changed for a form."""
    return {"plain": _leave, "packed": pack}.get(form, fold)


def _leave(_calls: Calls) -> None:
    """As they are."""


def on_device(module: nn.Module, device: torch.device | str) -> nn.Module:
    """The module on a device; going over all its tensors for nothing would cost as much as composing."""
    held = (tensor.device for tensor in (*module.parameters(), *module.buffers()))
    return module if all(where == torch.device(device) for where in held) else module.to(device)


def reference(model: Model, device: torch.device | str = "cpu") -> nn.Module:
    """The model's plain network in float64: what the errors of forms are measured against."""
    return on_device(_built(_in_float64(model), torch.float64, _plain), device)


_Part = Callable[[TrainedModel | ModularModel], nn.Module]
"""From the pixels of a model that is no patched one to its logits."""


def _built(model: Model, kind: torch.dtype, part: _Part) -> nn.Module:
    if isinstance(model, PatchedModel):
        return Patched(_built(model.weak, kind, part), _built(model.strong, kind, part), model, kind).eval()
    return part(model)


def _plain(model: TrainedModel | ModularModel) -> nn.Module:
    return Component(model.input, _plain_body(model), torch.float64)


def _plain_body(model: TrainedModel | ModularModel) -> nn.Module:
    return network(model).get_submodule("body")


def _rewritten(form: Form, model: TrainedModel | ModularModel) -> nn.Module:
    calls = _calls(model)
    rewrite_of(form)(calls)
    if form == "onnxruntime":
        return lowered_component(model.input, calls)
    return Component(model.input, calls.program(), KINDS[form])


def lowered_component(rule: InputSpec, calls: Calls, kept: Int64[Tensor, "kept"] | None = None) -> Apart:
    """Folded calls behind their input rule, and masks of kept units where there are some, run by ONNX Runtime.

    Its libraries are loaded when they are first needed: few machines that train have them.

    Raises:
        InvalidInput: for a network with calls for which no operator is known, or that ONNX Runtime does not take.
    """
    from moda_core.inference.lowering import lowered
    from moda_core.inference.sessions import Session
    from moda_core.inference.values import NotLowered

    try:
        return Session(lowered(rule, calls, kept))
    except NotLowered as error:
        raise InvalidInput("form", "onnxruntime", str(error), "choose folded") from error


def _calls(model: TrainedModel | ModularModel) -> Calls:
    if isinstance(model, ModularModel) and model.composed:
        sliced = _plain_body(model)
        assert isinstance(sliced, SlicedModel)
        return with_sizes(calls_of(sliced), unit_graph(model.architecture))
    return traced_calls(model.architecture, model.weights)


def _compiled(module: nn.Module) -> Callable[..., Tensor]:
    """The module, compiled as code of its own.

    torch counts recompilations by code, which all modules of a class share: after the eighth it would
    compile no more of them, and say nothing.
    """

    def run(*given: Tensor) -> Tensor:
        logits: Tensor = module(*given)
        return logits

    run.__code__ = run.__code__.replace()
    compiled: Callable[..., Tensor] = torch.compile(run, dynamic=True)
    return compiled


def _blank(rule: InputSpec) -> UInt8[Tensor, "1 channels size size"]:
    return torch.zeros(1, rule.channels, rule.image_size, rule.image_size, dtype=torch.uint8)


def _in_float64(model: Model) -> Model:
    if isinstance(model, PatchedModel):
        weak, strong = _in_float64(model.weak), _in_float64(model.strong)
        assert isinstance(strong, ModularModel)
        return replace(model, weak=weak, strong=strong, weight=model.weight.double(), bias=model.bias.double())
    return replace(model, weights=_doubled(model.weights))


def _doubled(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.double() if weight.is_floating_point() else weight for name, weight in weights.items()}


def _size_bytes(module: nn.Module) -> int:
    """Of the tensors that a module holds, and of networks apart; views of one memory count once."""
    held = {(_place(tensor), tensor.nbytes) for tensor in (*module.parameters(), *module.buffers())}
    apart = sum(part.size_bytes for part in module.modules() if isinstance(part, Apart))
    return sum(size for _, size in held) + apart


def _place(tensor: Tensor) -> int:
    """Where its elements lie; of a packed one only torch knows that, and nothing shares it."""
    return id(tensor) if tensor.is_mkldnn else tensor.data_ptr()
