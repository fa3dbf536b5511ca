"""Modular models that nobody trained, whose modules have the sizes and overlaps that the paper reports.

Which units a class has is drawn: nearly all in the first layers, and nearly the same for every class; few
in the last ones, and hardly any in common (section 5.2 of the paper). How fast shares fall and how fast
modules part with depth is set so that mean module size and overlap come out as in table 3 (CIFAR-10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import torch
from torch import Tensor

from moda_core.architectures.catalogue import build, complete
from moda_core.modularity.measures import ModuleMeasures, module_measures
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.specs import InputSpec
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["REPORTED", "drawn_model"]

REPORTED: Mapping[str, tuple[float, float]] = {
    "vgg16": (0.027, 0.014),
    "resnet18": (0.081, 0.055),
    "mobilenet": (0.089, 0.044),
}
"""Module size and overlap on CIFAR-10, by network (table 3 of the paper)."""

_SAMPLES = 1000
_ROUNDS, _HALVINGS = 3, 8


@dataclass(frozen=True)
class _Draw:
    """Orders of each layer's units: one that all classes follow first, and one per class."""

    graph: UnitGraph
    classes: int
    shared: Mapping[str, Tensor]
    own: Mapping[str, Tensor]

    def counts(self, last_share: float, parting: float) -> ActivationCounts:
        """A class has `last_share` ** depth of a layer's units; (1 - depth) ** `parting` of them all classes have."""
        counts = {}
        for place, layer in enumerate(self.graph.layers):
            depth = place / max(len(self.graph.layers) - 1, 1)
            wanted = max(1, round(last_share**depth * layer.units))
            counts[layer.name] = self._layer(layer.name, wanted, round((1 - depth) ** parting * wanted))
        units = {layer.name: torch.arange(layer.units) for layer in self.graph.layers}
        return ActivationCounts(counts=counts, units=units, samples=(_SAMPLES,) * self.classes)

    def _layer(self, name: str, wanted: int, common: int) -> Tensor:
        count = torch.zeros(self.own[name].shape, dtype=torch.int32)
        count[:, self.shared[name][:common]] = _SAMPLES
        for row, order in zip(count, self.own[name], strict=True):
            row[order[row[order] == 0][: wanted - common]] = _SAMPLES
        return count


def drawn_model(name: str, seed: int, classes: int = 10) -> ModularModel:
    """A network with random weights at τ = 0.9, whose modules' mean size and overlap are the reported ones."""
    labels = tuple(f"class {index}" for index in range(classes))
    architecture = complete(name, classes=classes, channels=3, image_size=32)
    rule = InputSpec(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = TrainedModel(architecture, labels, rule, build(architecture).state_dict())
    draw = _drawn(unit_graph(architecture), classes, torch.Generator().manual_seed(seed))

    def measured(last_share: float, parting: float) -> ModuleMeasures:
        return module_measures(decomposed(trained, draw.counts(last_share, parting), Decimal("0.9")))

    size, overlap = REPORTED[name]
    last_share, parting = 0.1, 1.0
    for _ in range(_ROUNDS):
        last_share = _where(lambda share, now=parting: measured(share, now).mean_size >= size, 0.001, 1.0)  # type: ignore[misc]
        parting = _where(lambda power, now=last_share: measured(now, power).mean_overlap <= overlap, 0.05, 8.0)  # type: ignore[misc]
    return decomposed(trained, draw.counts(last_share, parting), Decimal("0.9"))


def _drawn(graph: UnitGraph, classes: int, generator: torch.Generator) -> _Draw:
    shared = {layer.name: torch.randperm(layer.units, generator=generator) for layer in graph.layers}
    own = {
        layer.name: torch.stack([torch.randperm(layer.units, generator=generator) for _ in range(classes)])
        for layer in graph.layers
    }
    return _Draw(graph, classes, shared, own)


def _where(reached: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds for large values begins to hold; halving the logarithm."""
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
