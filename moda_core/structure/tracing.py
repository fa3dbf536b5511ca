"""A network's forward pass as a graph: one node per call, shapes known, activations in one form.

Tracing is torch.fx's. Shapes come from running the graph on the meta device, where nothing is
computed. Every activation, whether a module, a function, a method or an in-place one, becomes one
out-of-place function call, so that the rest of the package meets a single form; and what overwrites
its input otherwise (``x += y``) does so no more, its later readers being led to the result.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import Tensor, fx, nn

from moda_core.errors import Untraceable
from moda_core.structure.counting import OperationCounter

__all__ = ["ACTIVATIONS", "REACHES_ZERO", "TRACED_BATCH", "Trace", "in_mode", "is_activation", "trace"]

TRACED_BATCH = 13
"""Samples in a traced pass: a size that no other axis is likely to have, so that it tells the batch axis."""

_ONE_TRACE = threading.Lock()  # two at a time would put back each other's replaced calls

Function = Callable[..., Any]

ACTIVATIONS: Mapping[type[nn.Module], tuple[Function, tuple[str, ...]]] = {
    nn.ReLU: (F.relu, ()),
    nn.ReLU6: (F.relu6, ()),
    nn.LeakyReLU: (F.leaky_relu, ("negative_slope",)),
    nn.GELU: (F.gelu, ("approximate",)),
    nn.SiLU: (F.silu, ()),
    nn.Hardswish: (F.hardswish, ()),
    nn.Tanh: (torch.tanh, ()),
    nn.ELU: (F.elu, ("alpha",)),
}
"""The activations that MODA regulates, as the function each becomes and the arguments it keeps."""

REACHES_ZERO: frozenset[Function] = frozenset({F.relu, F.relu6, F.hardswish})
"""Those that are exactly zero on an interval; the others need an epsilon to be counted inactive."""

_FUNCTIONS: Mapping[Function, Function] = {
    F.relu: F.relu,
    torch.relu: F.relu,
    torch.relu_: F.relu,
    F.relu6: F.relu6,
    F.leaky_relu: F.leaky_relu,
    F.leaky_relu_: F.leaky_relu,
    F.gelu: F.gelu,
    F.silu: F.silu,
    F.hardswish: F.hardswish,
    torch.tanh: torch.tanh,
    torch.tanh_: torch.tanh,
    F.tanh: torch.tanh,
    F.elu: F.elu,
    F.elu_: F.elu,
}
_KEPT: Mapping[Function, tuple[str, ...]] = dict(ACTIVATIONS.values())
_METHODS: Mapping[str, Function] = {"relu": F.relu, "relu_": F.relu, "tanh": torch.tanh, "tanh_": torch.tanh}
_DROPOUTS: Mapping[type[nn.Module], Function] = {
    nn.Dropout: F.dropout,
    nn.Dropout1d: F.dropout1d,
    nn.Dropout2d: F.dropout2d,
    nn.Dropout3d: F.dropout3d,
    nn.AlphaDropout: F.alpha_dropout,
    nn.FeatureAlphaDropout: F.feature_alpha_dropout,
}
_OUT_OF_PLACE: Mapping[Any, Function] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


@dataclass(frozen=True)
class Trace:
    """A traced forward pass.

    Attributes:
        module: the traced network on the meta device: structure and shapes without numbers.
        graph: its calls; activations are nodes whose target is one of `ACTIVATIONS`' functions.
        shapes: of every node that is one tensor, with `TRACED_BATCH` samples.
        flops: multiply-adds counted as two, per node and sample, as torch counts them.
    """

    module: nn.Module
    graph: fx.Graph
    shapes: Mapping[fx.Node, tuple[int, ...]]
    flops: Mapping[fx.Node, int]


def is_activation(node: fx.Node) -> bool:
    """Whether a node of a `Trace` is one of the activations that MODA regulates."""
    return node.op == "call_function" and node.target in _KEPT


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a network and all its parts into one mode, and each part back as it was."""
    before = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode


def trace(module: nn.Module, image_shape: tuple[int, int, int], *, training: bool) -> Trace:
    """Trace a network for images of shape (channels, height, width) in train or eval mode.

    The mode matters: a traced graph has it baked in (stochastic depth vanishes in eval mode).

    Raises:
        Untraceable: if the forward pass depends on values, or does not return one tensor
            [batch, classes].
    """
    twin = module if _on_meta(module) else _meta_twin(module)
    with in_mode(twin, training):
        try:
            with _ONE_TRACE:
                graph = _Tracer().trace(twin)
        except Exception as error:
            raise Untraceable(
                f"the forward pass of {type(module).__name__} cannot be traced: {error}",
                "train it with the standard objective and serve it whole, or avoid control flow that depends on tensors",
            ) from error
        _check_states(twin, graph)
        _normalise_activations(twin, graph)
        _normalise_in_place(twin, graph)
        recorder = _Recorder(twin, graph)
        try:
            recorder.record(image_shape)
        except Exception as error:
            raise Untraceable(
                f"{type(module).__name__} does not run on images of shape {image_shape}: {error}",
                "trace it with the shape of image it was made for",
            ) from error
    _check_output(module, graph, recorder.shapes)
    return Trace(twin, graph, recorder.shapes, recorder.flops)


def _on_meta(module: nn.Module) -> bool:
    return all(tensor.is_meta for tensor in module.state_dict(keep_vars=True).values())


def _meta_twin(module: nn.Module) -> nn.Module:
    """The same network on the meta device, without ever copying its numbers."""
    memo: dict[int, Any] = {
        id(tensor): _meta_tensor(tensor)
        for owner in module.modules()
        for tensor in (*owner._parameters.values(), *owner._buffers.values())
        if tensor is not None
    }
    return copy.deepcopy(module, memo)


def _meta_tensor(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


class _Tracer(fx.Tracer):
    """Reads buffers by name, as parameters are, so that a trace holds no numbers, and sees ``x += y`` as it is.

    While torch.fx traces, it replaces the call of *every* module in the process. Other threads, which may be
    predicting, are led to the module itself.
    """

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """torch.fx takes ``x += y`` for ``x = x + y``, which is wrong where `x` has a second name."""

    def __iadd__(self, other: Any) -> Any:
        return self._assigned(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._assigned(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._assigned(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._assigned(operator.itruediv, other)

    def _assigned(self, function: Function, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Recorder(fx.Interpreter):
    """Runs a graph on the meta device and notes each node's shape and operations."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(fx.GraphModule(module, graph))
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.flops: dict[fx.Node, int] = {}
        self._originals = {node.name: node for node in graph.nodes}

    def record(self, image_shape: tuple[int, int, int]) -> None:
        # Gradients on: fused attention, which torch takes without them, escapes its counter.
        states = self.module.state_dict().values()
        dtype = next((state.dtype for state in states if state.is_floating_point()), None)
        with torch.enable_grad():
            self.run(torch.empty((TRACED_BATCH, *image_shape), device="meta", dtype=dtype))

    def run_node(self, n: fx.Node) -> Any:
        with OperationCounter() as counter:
            result = super().run_node(n)
        node = self._originals[n.name]
        if isinstance(result, Tensor):
            self.shapes[node] = tuple(result.shape)
        self.flops[node] = counter.flops // TRACED_BATCH
        return result


def _normalise_activations(module: nn.Module, graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        call = _activation_call(module, node)
        if call is None:
            continue
        function, source, arguments, in_place = call
        if in_place:
            _redirect_later_readers(graph, node, source)
        node.op, node.target, node.args, node.kwargs = "call_function", function, (source,), arguments
    graph.lint()


def _activation_call(module: nn.Module, node: fx.Node) -> tuple[Function, fx.Node, dict[str, Any], bool] | None:
    """The function, input, arguments and in-place flag of an activation; None for other nodes."""
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        if type(part) not in ACTIVATIONS:
            return None
        function, kept = ACTIVATIONS[type(part)]
        arguments = {name: getattr(part, name) for name in kept}
        return function, _source(node), arguments, bool(getattr(part, "inplace", False))
    if node.op == "call_method" and node.target in _METHODS:
        return _METHODS[str(node.target)], _source(node), {}, str(node.target).endswith("_")
    if node.op == "call_function" and callable(node.target) and node.target in _FUNCTIONS:
        names = _KEPT[_FUNCTIONS[node.target]]
        arguments = dict(zip(names, node.args[1:], strict=False))
        arguments |= {name: value for name, value in node.kwargs.items() if name in names}
        in_place = (
            bool(node.kwargs.get("inplace"))
            or getattr(node.target, "__name__", "").endswith("_")
            or any(value is True for value in node.args[1:])
        )
        return _FUNCTIONS[node.target], _source(node), arguments, in_place
    return None


def _normalise_in_place(module: nn.Module, graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.all_input_nodes and _made_out_of_place(module, node):
            _redirect_later_readers(graph, node, node.all_input_nodes[0])
    graph.lint()


def _made_out_of_place(module: nn.Module, node: fx.Node) -> bool:
    """Whether a call overwrites its first input; functions, methods and dropout are changed not to.

    An activation's output, which dropout often reads, is what its backward pass needs. Other modules are
    marked when they are called: a sliced model's own copies overwrite nothing.
    """
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        if not getattr(part, "inplace", False):
            return False
        if type(part) in _DROPOUTS:
            arguments = {name: getattr(part, name) for name in ("p", "training")}
            source, function = _source(node), _DROPOUTS[type(part)]
            node.op, node.target, node.args, node.kwargs = "call_function", function, (source,), arguments
        return True
    if node.op == "call_function" and node.target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[node.target]
        return True
    if node.op == "call_function" and node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    plain = str(node.target).removesuffix("_")
    if node.op == "call_method" and plain != node.target and not plain.endswith("_") and hasattr(Tensor, plain):
        node.target = plain
        return True
    return False


def _source(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else node.kwargs["input"]
    if not isinstance(source, fx.Node):
        raise TypeError(f"{node} is applied to {source!r}, which is not a traced value")
    return source


def _redirect_later_readers(graph: fx.Graph, node: fx.Node, source: fx.Node) -> None:
    """Whoever read the source after it was overwritten read the activation."""
    order = {other: place for place, other in enumerate(graph.nodes)}
    for reader in list(source.users):
        if reader is not node and order[reader] > order[node]:
            reader.replace_input_with(source, node)


def _check_states(twin: nn.Module, graph: fx.Graph) -> None:
    """Everything a forward pass reads must be in the state dict, which is all that is stored."""
    named = set(twin.state_dict())
    read = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    held = {name for name, _ in (*twin.named_parameters(), *twin.named_buffers())}
    missing = sorted((read | held) - named)
    if missing:
        raise Untraceable(
            f"{type(twin).__name__} reads {', '.join(missing)}, which is not in its state dict",
            "register it as a persistent buffer",
        )


def _check_output(module: nn.Module, graph: fx.Graph, shapes: Mapping[fx.Node, tuple[int, ...]]) -> None:
    result = next(node for node in reversed(graph.nodes) if node.op == "output").args[0]
    if not isinstance(result, fx.Node) or len(shapes.get(result, ())) != 2:
        raise Untraceable(
            f"{type(module).__name__} does not return one tensor [batch, classes]",
            "switch auxiliary heads off, so that only the logits are returned",
        )
