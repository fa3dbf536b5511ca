"""What executables are made of: networks behind their input rules, from pixels to logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from moda_core.modularity.models import Model, PatchedModel
from moda_core.modularity.networks import splice
from moda_core.specs import InputSpec

__all__ = ["Apart", "Component", "Patched", "inputs_of", "scale_and_shift"]


def scale_and_shift(
    rule: InputSpec,
) -> tuple[Float64[Tensor, "1 channels 1 1"], Float64[Tensor, "1 channels 1 1"]]:
    """An input rule as one product and one sum: pixels / (255 std) - mean / std."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (rule.mean, rule.std))
    return 1 / (255 * std), -mean / std


class Component(nn.Module):
    """A network behind its input rule (`scale_and_shift`).

    Args:
        body: called with normalised images, and with whatever else the component is called with.
        kind: the type in which it computes.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, rule: InputSpec, body: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        scale, shift = scale_and_shift(rule)
        self.door = torch.float64 if kind == torch.float64 else torch.float32
        self.register_buffer("scale", scale.to(self.door), persistent=False)
        self.register_buffer("shift", shift.to(self.door), persistent=False)
        alike = all(parameter.dtype == kind for parameter in body.parameters())
        self.kind, self.body = kind, body if alike else body.to(kind)
        self.eval()

    def forward(
        self, pixels: UInt8[Tensor, "batch channels size size"], *more: Tensor
    ) -> Float[Tensor, "batch classes"]:
        """Logits, in the body's type."""
        values = pixels.to(self.door, memory_format=torch.channels_last)
        logits: Tensor = self.body.forward(torch.addcmul(self.shift, values, self.scale).to(self.kind), *more)
        return logits


class Patched(nn.Module):
    """Two components and the layer that aligns them.

    Args:
        weak: called with the first inputs.
        strong: called with the others.
    """

    def __init__(self, weak: nn.Module, strong: nn.Module, model: PatchedModel, kind: torch.dtype) -> None:
        super().__init__()
        self.weak, self.strong, self.count = weak, strong, len(inputs_of(model.weak))
        self.position = model.labels.index(model.label)
        self.register_buffer("weight", model.weight.detach().to(kind), persistent=False)
        self.register_buffer("bias", model.bias.detach().to(kind), persistent=False)

    def forward(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float[Tensor, "batch classes"]:
        """Logits of the weak model's classes, one of them the strong module's, aligned."""
        weak, strong = self.weak(*pixels[: self.count]), self.strong(*pixels[self.count :])
        merged = splice(weak, strong[:, 0], self.position)
        return nn.functional.linear(merged, self.get_buffer("weight"), self.get_buffer("bias"))


class Apart(nn.Module):
    """A network, with its input rule, in whose forward pass torch has no part.

    Attributes:
        size_bytes: of the memory that it takes.
    """

    size_bytes: int


def inputs_of(model: Model) -> tuple[InputSpec, ...]:
    """One rule per argument of a model's executable: a patched model has one per component."""
    if isinstance(model, PatchedModel):
        return (*inputs_of(model.weak), *inputs_of(model.strong))
    return (model.input,)
