"""Composition: a small model for some classes, cut out of a modular one without training.

A composed model is the modular model with units masked, made small. It keeps its classes' counts
for every unit of its mask and speaks of units by the root's indices, so it is a modular model
itself, and compose(compose(M, K), L) = compose(M, L) for L within K, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moda_core.errors import Conflict, NotFound
from moda_core.modularity.models import ActivationCounts, Model, ModularModel, PatchedModel, TrainedModel
from moda_core.modularity.modules import unit_masks
from moda_core.specs import check_labels
from moda_core.structure.operations import Held
from moda_core.structure.slicing import Masks, Plan, plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = [
    "check_composable",
    "check_threshold",
    "compose",
    "composition_masks",
    "composition_plan",
    "cut_weights",
    "held_masks",
]


def compose(model: Model, labels: Sequence[str], threshold: Decimal | None = None) -> ModularModel:
    """The modular model of some of a model's classes, with only the units that their modules need.

    Args:
        model: modular, whole or composed.
        labels: in any order; the composed model has them in the root's order.
        threshold: τ; None takes the model's own.

    Raises:
        InvalidInput: for no class, or one named twice.
        NotFound: for a class that the model does not have.
        Conflict: for a model that was never decomposed, is patched, or is composed at a higher τ.
    """
    modular = check_composable(model)
    positions = _positions(modular, labels)
    tau = check_threshold(modular, threshold)
    graph = unit_graph(modular.architecture)
    masks = _masks(graph, modular.counts, positions, tau)
    rows = tuple(modular.rows[position] for position in positions)
    held = plan(graph, masks, rows).held
    return ModularModel(
        architecture=modular.architecture,
        labels=tuple(modular.labels[position] for position in positions),
        rows=rows,
        input=modular.input,
        weights=cut_weights(modular, held),
        counts=_counts(modular.counts, positions, masks),
        threshold=tau,
        held=_as_tensors(held),
        composed=True,
    )


def composition_masks(model: ModularModel, labels: Sequence[str], threshold: Decimal | None = None) -> Masks:
    """The masks, over the root's units, of a composition that is not built."""
    graph = unit_graph(model.architecture)
    return _masks(graph, model.counts, _positions(model, labels), check_threshold(model, threshold))


def composition_plan(
    model: ModularModel, labels: Sequence[str], threshold: Decimal | None = None, *, drop: bool = True
) -> Plan:
    """What a composition holds and costs, by index arithmetic alone; arguments as for `compose`."""
    rows = [model.rows[position] for position in _positions(model, labels)]
    return plan(unit_graph(model.architecture), composition_masks(model, labels, threshold), rows, drop=drop)


def check_composable(model: Model) -> ModularModel:
    """The model, if it has modules.

    Raises:
        Conflict: if it was never decomposed, or is patched.
    """
    if isinstance(model, TrainedModel):
        raise Conflict("the model was never decomposed, so it has no modules", "decompose it first")
    if isinstance(model, PatchedModel):
        raise Conflict(
            "the model is patched, so it is two networks and has no modules of its own",
            "compose the weak or the strong model it was made from",
        )
    return model


def check_threshold(model: ModularModel, threshold: Decimal | None) -> Decimal:
    """τ for a composition: the model's own unless another is given.

    Raises:
        Conflict: if it is lower than that of a composed model, whose other units are gone.
    """
    if threshold is None:
        return model.threshold
    if model.composed and threshold < model.threshold:
        raise Conflict(
            f"the model was composed at threshold {model.threshold} and cannot be composed at {threshold}",
            f"give a threshold of at least {model.threshold}, or compose the model it was cut from",
        )
    return threshold


def _positions(model: ModularModel, labels: Sequence[str]) -> list[int]:
    for label in check_labels("classes", labels):
        if label not in model.labels:
            raise NotFound("class", label, f"the model has {', '.join(model.labels)}")
    return sorted(model.labels.index(label) for label in labels)


def _masks(graph: UnitGraph, counts: ActivationCounts, positions: Sequence[int], threshold: Decimal) -> Masks:
    return unit_masks(counts, positions, threshold, {layer.name: layer.units for layer in graph.layers})


def held_masks(model: ModularModel) -> Masks:
    """The masks, over the root's units, of all units whose counts a model holds."""
    masks = {layer.name: np.zeros(layer.units, dtype=np.bool_) for layer in unit_graph(model.architecture).layers}
    for layer, units in model.counts.units.items():
        masks[layer][units.numpy()] = True
    return {layer: torch.from_numpy(mask) for layer, mask in masks.items()}


def cut_weights(model: ModularModel, held: Held) -> dict[str, Tensor]:
    """The parts of a root's weights that a plan holds, from the parts that a model of it holds."""
    return {name: _cut(model, name, held) for name in held}


def _cut(model: ModularModel, name: str, held: Held) -> Tensor:
    """The part of one weight that a plan holds, gathered from the part at hand."""
    weight = model.weights[name]
    at_hand = model.held.get(name, ())
    for axis, wanted in enumerate(held[name]):
        have = at_hand[axis] if axis < len(at_hand) else None
        if wanted is None:
            assert have is None, f"{name} was cut along axis {axis} and cannot be widened"
            continue
        if have is not None and len(have) == len(wanted):
            continue
        places = wanted if have is None else np.searchsorted(have.numpy(), wanted)
        if len(places) < weight.shape[axis]:
            weight = weight.index_select(axis, torch.from_numpy(places).to(weight.device))
    return weight


def _counts(counts: ActivationCounts, positions: Sequence[int], masks: Masks) -> ActivationCounts:
    """The chosen classes' counts for every unit of the mask, also where slicing drops it later."""
    kept = {layer: masks[layer][units] for layer, units in counts.units.items()}
    return ActivationCounts(
        counts={layer: count[list(positions)][:, kept[layer]] for layer, count in counts.counts.items()},
        units={layer: units[kept[layer]] for layer, units in counts.units.items()},
        samples=tuple(counts.samples[position] for position in positions),
        epsilon=counts.epsilon,
    )


def _as_tensors(held: Held) -> dict[str, tuple[Tensor | None, ...]]:
    """The held indices of the weights that are cut, one tensor for weights that are cut alike.

    Copies: the plan is kept, and what is done to one model must not reach the next.
    """
    copies: dict[int, Tensor] = {}

    def copied(indices: NDArray[np.int64] | None) -> Tensor | None:
        if indices is None:
            return None
        if id(indices) not in copies:
            copies[id(indices)] = torch.tensor(indices)
        return copies[id(indices)]

    return {name: tuple(map(copied, axes)) for name, axes in held.items() if axes}
