"""Models whose logits depend on the image, of every kind, for the tests of exports."""

from __future__ import annotations

from decimal import Decimal

import torch

from moda_core.architectures import catalogue
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph

LABELS = ("ant", "bee", "cow", "dög")


def trained_model(name: str = "cnn", *, channels: int = 1, mean: float = 0.4, **arguments: object) -> TrainedModel:
    """Random weights."""
    architecture = catalogue.complete(name, classes=len(LABELS), channels=channels, **arguments)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = catalogue.build(architecture).state_dict()
    size = architecture.image_size
    rule = InputSpec(image_size=size, channels=channels, mean=(mean,) * channels, std=(0.3,) * channels)
    return TrainedModel(architecture, LABELS, rule, weights)


def modular_model(name: str = "cnn", **arguments: object) -> ModularModel:
    """The same, with counts by which about half of the units are in each module."""
    trained = trained_model(name, **arguments)
    return ModularModel(
        architecture=trained.architecture,
        labels=LABELS,
        rows=tuple(range(len(LABELS))),
        input=trained.input,
        weights=trained.weights,
        counts=_counts(trained.architecture),
        threshold=Decimal("0.5"),
    )


def patched_model(weak: TrainedModel) -> PatchedModel:
    """A weak model with a module that takes grey images of 16 x 16."""
    adaptation = torch.randn(len(LABELS), len(LABELS), generator=torch.Generator().manual_seed(1))
    return PatchedModel(weak, compose(modular_model(width=0.25), ["bee"]), "bee", adaptation, torch.zeros(len(LABELS)))


def _counts(architecture: ArchitectureSpec) -> ActivationCounts:
    generator = torch.Generator().manual_seed(0)
    layers = unit_graph(architecture).layers
    counts = {
        layer.name: torch.randint(0, 11, (len(LABELS), layer.units), generator=generator, dtype=torch.int32)
        for layer in layers
    }
    return ActivationCounts(counts, {one.name: torch.arange(one.units) for one in layers}, (10,) * len(LABELS))
