"""Where numbers first stopped being finite, found afterwards by doing an epoch again with open eyes.

Watching every step as it is done would let the device wait for the host; a run that has failed has time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from moda_core.training.steps import Step

__all__ = ["first_failure"]


def first_failure(
    step: Step,
    model: nn.Module,
    batches: Iterable[tuple[Float[Tensor, "batch channels height width"], Int64[Tensor, "batch"]]],
) -> str:
    """Do an epoch again, eagerly, from the model as it was before, and say what was not finite first.

    That is a weight or a buffer before the first step, or in some step, whichever comes first: a
    layer's output, the loss, a gradient (the last in the order of the forward pass, which the backward
    pass meets first), or a weight or a buffer after the step. Of several ranks, who do it together
    and hear the same, the one that found the earliest of these is named.
    """
    if broken := _broken_state(model):
        return f"{broken}, before the first step"
    for number, (pixels, labels) in enumerate(batches, 1):
        found = [one for one in step.ranks.gathered(_watched(step, model, pixels, labels)) if one[1]]
        if found:
            return f"{min(found)[1]}, in step {number}"
    return "nothing that could be found again when the epoch was repeated"


def _watched(step: Step, model: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[int, str]:
    """What broke in a step, after how much of it; no words where nothing did."""
    where = f" on rank {step.ranks.rank}" if step.ranks.world > 1 else ""
    with _broken_outputs(model) as outputs:
        loss = step.eager(pixels, labels)[0]
    if outputs:
        return 0, f"the output of layer {outputs[0]!r}{where}"
    if not loss.isfinite():
        return 1, "the loss, though not the output of any layer"
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    if broken := _not_finite(gradients):
        return 2, f"the gradient of {broken[-1]!r}"
    if state := _broken_state(model):
        return 3, f"{state}{where if state.startswith('the buffer') else ''} after the update"
    return 4, ""


@contextmanager
def _broken_outputs(model: nn.Module) -> Iterator[list[str]]:
    """The names of the innermost modules whose output is not finite, in the order they are called."""
    names: list[str] = []

    def watching(name: str) -> object:
        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                names.append(name)

        return look

    hooks = [
        module.register_forward_hook(watching(name))
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        yield names
    finally:
        for hook in hooks:
            hook.remove()


def _broken_state(model: nn.Module) -> str | None:
    """A parameter or a buffer that is not finite, of those that are in a model's state."""
    weights = dict(model.named_parameters())
    if broken := _not_finite(weights):
        return f"the weights {broken[0]!r}"
    buffers = {name: one for name, one in model.state_dict().items() if one.is_floating_point() and name not in weights}
    broken = _not_finite(buffers)
    return f"the buffer {broken[0]!r}" if broken else None


@torch.no_grad()
def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
