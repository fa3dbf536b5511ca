"""Module sizes and overlaps, layer by layer, against the elements themselves."""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from statistics import fmean

import pytest
import torch

from experiments.reuse.composers import modules_at
from experiments.reuse.modules import layer_overlaps
from moda_core.architectures.catalogue import build, complete
from moda_core.modularity.composition import composition_plan
from moda_core.modularity.models import ActivationCounts, ModularModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.slicing import Plan
from moda_core.structure.unitgraph import unit_graph

TAU = Decimal("0.9")


def modular(architecture: ArchitectureSpec, share: float = 0.4) -> ModularModel:
    """Random modules: each unit is in a class's with probability `share`."""
    generator = torch.Generator().manual_seed(0)
    graph = unit_graph(architecture)
    counts = {
        layer.name: (torch.rand(architecture.classes, layer.units, generator=generator) < share).to(torch.int32) * 100
        for layer in graph.layers
    }
    return ModularModel(
        architecture=architecture,
        labels=tuple("abcdefgh"[: architecture.classes]),
        rows=tuple(range(architecture.classes)),
        input=InputSpec(image_size=architecture.image_size, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3),
        weights=build(architecture).state_dict(),
        counts=ActivationCounts(
            counts, {layer.name: torch.arange(layer.units) for layer in graph.layers}, (100,) * architecture.classes
        ),
        threshold=TAU,
    )


def plans(model: ModularModel, *, drop: bool) -> dict[str, Plan]:
    return {label: composition_plan(model, [label], TAU, drop=drop) for label in model.labels}


def elements(model: ModularModel, label: str, name: str, *, drop: bool) -> set[int]:
    """Which elements of a weight a module holds, read off a tensor of their numbers."""
    graph = unit_graph(model.architecture)
    numbers = torch.arange(torch.Size(graph.state_shapes[name]).numel()).reshape(graph.state_shapes[name])
    held = composition_plan(model, [label], TAU, drop=drop).held
    if name not in held:
        return set()
    for axis, indices in enumerate(held[name]):
        if indices is not None:
            numbers = numbers.index_select(axis, torch.from_numpy(indices.copy()))
    return set(numbers.flatten().tolist())


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", ["cnn", "mobilenet", "resnet18"])
def test_what_two_modules_share_of_a_layer_is_counted_element_by_element(name: str, *, drop: bool) -> None:
    model = modular(complete(name, classes=3, channels=3, width=0.0625))
    graph = unit_graph(model.architecture)
    found = layer_overlaps(plans(model, drop=drop))
    weights = [one for one in graph.state_shapes if one in graph.parameter_names and len(graph.state_shapes[one]) > 1]
    assert [f"{layer}.weight" for layer in found] == weights
    for weight, share in zip(weights, found.values(), strict=True):
        held = [elements(model, label, weight, drop=drop) for label in model.labels]
        total = torch.Size(graph.state_shapes[weight]).numel()
        assert share == pytest.approx(fmean(len(a & b) / total for a, b in combinations(held, 2)), abs=1e-12)
    assert any(0 < share < 1 for share in found.values())


def test_modules_are_measured_as_sliced_and_as_the_paper_counts() -> None:
    model = modular(complete("mobilenet", classes=3, channels=3, width=0.25), share=0.15)
    row = modules_at(model, TAU)
    assert row["parameters"] == unit_graph(model.architecture).parameters
    assert 0 < row["overlap"] < row["size"] < row["size_undropped"] < 1
    assert row["size"] == pytest.approx(fmean(row["sizes"].values()))
    assert list(row["sizes"]) == ["a", "b", "c"]


def test_modules_that_keep_everything_share_every_layer() -> None:
    model = modular(complete("cnn", classes=2, channels=3), share=1.0)
    *hidden, last = layer_overlaps(plans(model, drop=True)).values()
    assert hidden == [1.0] * len(hidden)
    assert last == 0.0, "each class has its own row of the last layer"
