"""One small model of every kind, and a small data set."""

from decimal import Decimal

import pytest
import torch

from moda_core.architectures import catalogue
from moda_core.data.dataset import Dataset, Images
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import InputSpec
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import unit_graph

ARCHITECTURE = catalogue.complete("cnn", classes=3, channels=1, width=0.25)
LABELS = ("bird", "cat", "dog")
INPUT = InputSpec(image_size=ARCHITECTURE.image_size, channels=1, mean=(0.5,), std=(0.25,))
SAMPLES = (10, 12, 9)


@pytest.fixture
def trained() -> TrainedModel:
    generator = torch.Generator().manual_seed(1)
    network = catalogue.build(ARCHITECTURE, device="meta")
    weights = {
        name: torch.randn(state.shape, generator=generator)
        if state.is_floating_point()
        else torch.full(state.shape, 7, dtype=state.dtype)
        for name, state in network.state_dict().items()
    }
    return TrainedModel(ARCHITECTURE, LABELS, INPUT, weights)


@pytest.fixture
def modular(trained: TrainedModel) -> ModularModel:
    generator = torch.Generator().manual_seed(2)
    counts, units = {}, {}
    for layer in unit_graph(ARCHITECTURE).layers:
        rows = [torch.randint(0, most + 1, (layer.units,), generator=generator) for most in SAMPLES]
        counts[layer.name] = torch.stack(rows).to(torch.int32)
        units[layer.name] = torch.arange(layer.units)
    return ModularModel(
        architecture=ARCHITECTURE,
        labels=LABELS,
        rows=(0, 1, 2),
        input=INPUT,
        weights=trained.weights,
        counts=ActivationCounts(counts, units, SAMPLES, epsilon=0.0),
        threshold=Decimal("0.9"),
    )


def cut(modular: ModularModel, masks: dict[str, torch.Tensor], rows: tuple[int, ...]) -> ModularModel:
    """Gather what the plan of these masks asks for."""
    weights, held = {}, {}
    for name, axes in plan(unit_graph(ARCHITECTURE), masks, rows).held.items():
        weight = modular.weights[name]
        held[name] = tuple(None if kept is None else torch.as_tensor(kept) for kept in axes)
        for axis, kept in enumerate(held[name]):
            weight = weight if kept is None else weight.index_select(axis, kept)
        weights[name] = weight
    units = {name: mask.nonzero().flatten() for name, mask in masks.items()}
    counts = {name: counts[list(rows)][:, units[name]] for name, counts in modular.counts.counts.items()}
    return ModularModel(
        architecture=ARCHITECTURE,
        labels=tuple(LABELS[row] for row in rows),
        rows=rows,
        input=INPUT,
        weights=weights,
        counts=ActivationCounts(counts, units, tuple(SAMPLES[row] for row in rows), epsilon=0.0),
        threshold=Decimal("0.95"),
        held=held,
        composed=True,
    )


@pytest.fixture
def composed(modular: ModularModel) -> ModularModel:
    """Every second unit, and the last two classes."""
    layers = unit_graph(ARCHITECTURE).layers
    return cut(modular, {layer.name: torch.arange(layer.units) % 2 == 1 for layer in layers}, (1, 2))


@pytest.fixture
def module(modular: ModularModel) -> ModularModel:
    """Every third unit, and the last class."""
    layers = unit_graph(ARCHITECTURE).layers
    return cut(modular, {layer.name: torch.arange(layer.units) % 3 == 0 for layer in layers}, (2,))


@pytest.fixture
def patched(trained: TrainedModel, module: ModularModel) -> PatchedModel:
    return PatchedModel(trained, module, "dog", torch.eye(3), torch.zeros(3))


@pytest.fixture
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(3)

    def images(count: int) -> Images:
        pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
        return Images(pixels, torch.arange(count) % 2)

    return Dataset(classes=("even", "odd"), train=images(12), test=images(6), mirror=False)
