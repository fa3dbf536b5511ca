"""Many compositions of one model in one forward pass: one mask per sample instead of a model per subset.

A composed model is the modular model with units masked. So the modular model itself answers for
any of its compositions, and a batch may hold requests for as many of them as it has samples: no
composition is built, and none must wait for its own kind to fill a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

from moda_core.inference.components import Component
from moda_core.inference.executables import (
    KINDS,
    Executable,
    Form,
    check_form,
    lowered_component,
    on_device,
    rewrite_of,
)
from moda_core.inference.graphs import Calls
from moda_core.inference.regulation import kept_units, regulated
from moda_core.modularity.composition import composition_masks, cut_weights, held_masks
from moda_core.modularity.models import ModularModel
from moda_core.specs import InputSpec
from moda_core.structure.slicing import Masks, plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["MixedModel", "Subset", "answers", "stacked", "subset", "whole"]


@dataclass(frozen=True)
class Subset:
    """Some classes of a modular model as a mask: all that a request for them needs beside the model.

    Attributes:
        labels: in the order of the composed model's logits, which is the root's.
        columns: where these classes stand among the modular model's logits.
        mask: over the units of all layers, side by side in the order of the unit graph.
    """

    labels: tuple[str, ...]
    columns: tuple[int, ...]
    mask: Bool[Tensor, "units"]

    @cached_property
    def size_bytes(self) -> int:
        """Of the mask: one byte per unit."""
        return self.mask.nbytes


class MixedModel(Executable):
    """A modular model, whole or composed, that answers for each sample's own subset.

    Forms as for other executables, of which a whole model's answers are those of its `executable`.

    Raises:
        InvalidInput: for a form that the device does not have.
    """

    def __init__(self, model: ModularModel, form: Form = "folded", device: torch.device | str = "cpu") -> None:
        check_form(form, device)
        planned = plan(unit_graph(model.architecture), held_masks(model), model.rows)
        calls = regulated(planned, cut_weights(model, planned.held), rewrite=rewrite_of(form))
        module = on_device(_mixed(form, model.input, calls, kept_units(planned)), device)
        masks = whole(model).mask[None]
        super().__init__(module, labels=model.labels, inputs=(model.input,), form=form, device=device, more=(masks,))

    def __call__(  # type: ignore[override]  # masks beside pixels
        self, pixels: UInt8[Tensor, "batch _channels _size _size"], masks: Bool[Tensor, "batch units"]
    ) -> Float32[Tensor, "batch classes"]:
        """Logits of all classes; of a sample's row, those of its own subset mean something.

        Args:
            pixels: already fitted to the model's input.
            masks: of the samples' subsets, as `stacked` makes them.
        """
        return self._answer(pixels, masks)


def _mixed(form: Form, rule: InputSpec, calls: Calls, kept: Int64[Tensor, "kept"]) -> nn.Module:
    """Regulated calls in one form, behind their input rule and the masks of all units."""
    if form == "onnxruntime":
        return lowered_component(rule, calls, kept)
    return _Mixed(rule, calls.program(), kept, KINDS[form])


class _Mixed(Component):
    """A regulated network behind its input rule and the masks of all units."""

    kept: Tensor

    def __init__(self, rule: InputSpec, body: nn.Module, kept: Tensor, kind: torch.dtype) -> None:
        super().__init__(rule, body, kind)
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, pixels: Tensor, *more: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits, in the body's type."""
        (masks,) = more
        return super().forward(pixels, masks.index_select(1, self.kept).to(self.kind))


def subset(model: ModularModel, labels: Sequence[str], threshold: Decimal | None = None) -> Subset:
    """What `compose` would build of the same arguments, as a mask: index arithmetic alone.

    Raises:
        InvalidInput: for no class, or one named twice.
        NotFound: for a class that the model does not have.
        Conflict: if the model is composed, and at a higher τ.
    """
    masks = composition_masks(model, labels, threshold)
    columns = tuple(column for column, label in enumerate(model.labels) if label in set(labels))
    return Subset(
        tuple(model.labels[column] for column in columns), columns, _packed(unit_graph(model.architecture), masks)
    )


def whole(model: ModularModel) -> Subset:
    """The model itself as a subset: every class with every unit that is held."""
    mask = _packed(unit_graph(model.architecture), held_masks(model))
    return Subset(model.labels, tuple(range(len(model.labels))), mask)


def stacked(subsets: Sequence[Subset], device: torch.device | str = "cpu") -> Bool[Tensor, "batch units"]:
    """The masks of a batch on a device, one row per sample; one copy, which nobody waits for."""
    shape = len(subsets), len(subsets[0].mask)
    elsewhere = torch.device(device).type == "cuda"
    masks = torch.empty(shape, dtype=torch.bool, pin_memory=elsewhere)
    torch.stack([one.mask for one in subsets], out=masks)
    return masks.to(device, non_blocking=True)


def answers(logits: Float[Tensor, "batch classes"], subsets: Sequence[Subset]) -> list[Float[Tensor, "_"]]:
    """Each sample's logits as its composed model gives them: of its own classes, in their order."""
    return [row[list(one.columns)] for row, one in zip(logits, subsets, strict=True)]


def _packed(graph: UnitGraph, masks: Masks) -> Bool[Tensor, "all_units"]:
    return torch.cat([masks[layer.name] for layer in graph.layers])
