"""Modules of a model: how large, how much two of them share, and in which layers (section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from experiments.records.result_file import Row
from moda_core.modularity.measures import plan_measures, whole_flops
from moda_core.structure.slicing import Plan
from moda_core.structure.unitgraph import UnitGraph

__all__ = ["layer_overlaps", "measured_modules"]

Plans = Mapping[str, Plan]


def measured_modules(sliced: Plans, undropped: Plans) -> Row:
    """Sizes and overlaps as shares of the model's parameters, as sliced and as the paper counts (``undropped``).

    ``layers`` has, from the first weight to the last, the mean share of its elements that two modules both hold.

    Args:
        sliced: the modules of all classes, by class.
        undropped: the same with every mask kept whole.
    """
    graph = _graph(sliced)
    measures, paper = plan_measures(sliced), plan_measures(undropped)
    return {
        "parameters": graph.parameters,
        "flops": whole_flops(graph),
        "size": measures.mean_size,
        "overlap": measures.mean_overlap,
        "size_undropped": paper.mean_size,
        "overlap_undropped": paper.mean_overlap,
        "sizes": dict(measures.sizes),
        "layers": layer_overlaps(sliced),
        "layers_undropped": layer_overlaps(undropped),
    }


def layer_overlaps(plans: Plans) -> dict[str, float]:
    """By convolutional or linear layer: elements of its weight that two modules share / its elements, mean over pairs."""
    graph = _graph(plans)
    return {name.removesuffix(".weight"): _mean_overlap(graph, list(plans.values()), name) for name in _weights(graph)}


def _graph(plans: Plans) -> UnitGraph:
    return next(iter(plans.values())).graph


def _weights(graph: UnitGraph) -> list[str]:
    """Names of the parameters with an input and an output axis, in the order of the network."""
    return [name for name, shape in graph.state_shapes.items() if name in graph.parameter_names and len(shape) > 1]


def _mean_overlap(graph: UnitGraph, plans: list[Plan], name: str) -> float:
    """What two plans share of a parameter is the product of what they share along each axis."""
    shape = graph.state_shapes[name]
    shared = np.ones((len(plans), len(plans)))
    for axis, size in enumerate(shape):
        members = np.stack([_members(planned, name, axis, size) for planned in plans])
        shared *= members @ members.T / size
    pairs = shared[np.triu_indices(len(plans), k=1)]
    return float(pairs.mean()) if len(pairs) else 0.0


def _members(planned: Plan, name: str, axis: int, size: int) -> NDArray[np.float64]:
    """Which indices along one axis of a parameter a plan holds, as zeros and ones."""
    if name not in planned.held:
        return np.zeros(size)
    held = planned.held[name]
    indices = held[axis] if axis < len(held) else None
    return np.ones(size) if indices is None else np.bincount(indices, minlength=size).astype(np.float64)
