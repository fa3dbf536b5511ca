"""What modules and compositions cost, by index arithmetic: nothing is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from moda_core.modularity.composition import composition_plan
from moda_core.modularity.models import ModularModel
from moda_core.structure.slicing import Plan, plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["CompositionSize", "ModuleMeasures", "composition_size", "module_measures", "plan_measures", "whole_flops"]

Overlaps = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ModuleMeasures:
    """Sizes of modules and what pairs of them share, as parts of the original's parameters.

    Attributes:
        sizes: by class.
        overlaps: by the first and the second class of a pair, every unordered pair once.
    """

    sizes: Mapping[str, float]
    overlaps: Overlaps

    @property
    def mean_size(self) -> float:
        """Mean over classes."""
        return fmean(self.sizes.values())

    @property
    def mean_overlap(self) -> float:
        """Mean over unordered pairs; 0 without any."""
        shares = [share for others in self.overlaps.values() for share in others.values()]
        return fmean(shares) if shares else 0.0


@dataclass(frozen=True)
class CompositionSize:
    """What a composed model keeps of its root.

    Attributes:
        kept_parameters, original_parameters: elements, running statistics and indices excluded.
        kept_flops, original_flops: for one image, a multiply-add counted as two.
        overlap: of its classes' modules, mean over unordered pairs.
    """

    kept_parameters: int
    original_parameters: int
    kept_flops: int
    original_flops: int
    overlap: float


def module_measures(model: ModularModel, threshold: Decimal | None = None, *, drop: bool = True) -> ModuleMeasures:
    """Measure the modules of all classes at τ (the model's own by default).

    Args:
        model: modular, whole or composed.
        threshold: τ.
        drop: leave out what no reader needs, as slicing does; without it, as the paper counts.
    """
    return plan_measures({label: composition_plan(model, [label], threshold, drop=drop) for label in model.labels})


def plan_measures(plans: Mapping[str, Plan]) -> ModuleMeasures:
    """Measure modules of one network by their plans, which are given by class."""
    labels, graph = list(plans), next(iter(plans.values())).graph
    shared = _shared_elements(graph, list(plans.values())) / graph.parameters
    overlaps: dict[str, dict[str, float]] = {}
    for first, second in combinations(range(len(labels)), 2):
        overlaps.setdefault(labels[first], {})[labels[second]] = float(shared[first, second])
    return ModuleMeasures({label: float(shared[place, place]) for place, label in enumerate(labels)}, overlaps)


def composition_size(model: ModularModel, overlaps: Overlaps | None = None) -> CompositionSize:
    """Measure a composed model; `overlaps` are its modules', when they are known already."""
    graph = unit_graph(model.architecture)
    planned = composition_plan(model, model.labels)
    known = overlaps if overlaps is not None else module_measures(model).overlaps
    shares = [known[first][second] for first, second in combinations(model.labels, 2)]
    return CompositionSize(
        kept_parameters=planned.parameters,
        original_parameters=graph.parameters,
        kept_flops=planned.flops,
        original_flops=whole_flops(graph),
        overlap=fmean(shares) if shares else 0.0,
    )


def whole_flops(graph: UnitGraph) -> int:
    """Operations of the whole network for one image, a multiply-add counted as two."""
    every = {layer.name: torch.ones(layer.units, dtype=torch.bool) for layer in graph.layers}
    return plan(graph, every, range(graph.classes)).flops


def _shared_elements(graph: UnitGraph, plans: Sequence[Plan]) -> NDArray[np.float64]:
    """Elements that each two plans both hold, [plans, plans]; on the diagonal, those that each holds.

    What a plan holds of a parameter is a product of index sets, one per axis, so what two plans
    share is the product of what they share along each axis.
    """
    total = np.zeros((len(plans), len(plans)))
    for name in graph.parameter_names:
        shared = np.ones_like(total)
        for axis, size in enumerate(graph.state_shapes[name]):
            members = np.stack([_members(one, name, axis, size) for one in plans])
            shared *= members @ members.T
        total += shared
    return total


def _members(planned: Plan, name: str, axis: int, size: int) -> NDArray[np.float64]:
    """Which indices along one axis of a parameter a plan holds, as zeros and ones."""
    if name not in planned.held:
        return np.zeros(size)
    held = planned.held[name]
    if axis >= len(held) or (indices := held[axis]) is None:
        return np.ones(size)
    members = np.zeros(size)
    members[indices] = 1
    return members
