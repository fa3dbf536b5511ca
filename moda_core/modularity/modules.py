"""Decomposition: which units make up the module of a class (section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from moda_core.errors import InvalidInput
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.structure.unitgraph import unit_graph

__all__ = ["decomposed", "unit_masks"]


def unit_masks(
    counts: ActivationCounts, positions: Sequence[int], threshold: Decimal, units: dict[str, int]
) -> dict[str, Bool[Tensor, "units"]]:
    """The union of some classes' modules, layer by layer, as masks over the root's units.

    A unit is in the module of class c iff its count is at least ceil(τ · n_c) (eq. 9). A class
    with no such unit in a layer keeps its most active one there, the lowest index on ties.

    Args:
        counts: of the modular model.
        positions: of the classes, in the order of the counts.
        threshold: τ.
        units: of the root, by layer.
    """
    chosen = list(positions)
    least = np.array([math.ceil(threshold * counts.samples[position]) for position in chosen])[:, None]
    masks: dict[str, Tensor] = {}
    for layer, count in counts.counts.items():
        rows = count.numpy()[chosen]
        members = rows >= least
        for position in np.flatnonzero(~members.any(axis=1)):
            members[position, rows[position].argmax()] = True
        mask = np.zeros(units[layer], dtype=np.bool_)
        mask[counts.units[layer].numpy()[members.any(axis=0)]] = True
        masks[layer] = torch.from_numpy(mask)
    return masks


def decomposed(model: TrainedModel, counts: ActivationCounts, threshold: Decimal) -> ModularModel:
    """The modular model of a trained one and its activation counts.

    Raises:
        InvalidInput: if the counts are not of this model's classes and layers, or a class has no sample.
    """
    if 0 in counts.samples:
        label = model.labels[counts.samples.index(0)]
        raise InvalidInput("counts", label, "a class without a sample has no module", f"count images of {label!r}")
    graph = unit_graph(model.architecture)
    expected = {layer.name: (len(model.labels), layer.units) for layer in graph.layers}
    found = {layer: tuple(count.shape) for layer, count in counts.counts.items()}
    if expected != found:
        raise InvalidInput("counts", found, "not those of this model", f"count the layers {expected}")
    return ModularModel(
        architecture=model.architecture,
        labels=model.labels,
        rows=tuple(range(len(model.labels))),
        input=model.input,
        weights=model.weights,
        counts=counts,
        threshold=threshold,
    )
