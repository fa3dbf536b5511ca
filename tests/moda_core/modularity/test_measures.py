"""Sizes and overlaps by index arithmetic, against counting every element by itself."""

from decimal import Decimal
from itertools import combinations

import pytest
import torch

from moda_core.architectures.catalogue import build
from moda_core.modularity.composition import compose, composition_plan
from moda_core.modularity.measures import composition_size, module_measures, whole_flops
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.modularity.networks import network
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph

LABELS = ("ant", "bee", "cow", "dog")
TAU = Decimal("0.9")


def modular(name: str, width: float) -> ModularModel:
    """A model with random weights and random counts of 100 samples a class."""
    architecture = ArchitectureSpec(name=name, classes=len(LABELS), channels=3, image_size=32, width=width)
    rule = InputSpec(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    trained = TrainedModel(architecture, LABELS, rule, build(architecture).state_dict())
    generator = torch.Generator().manual_seed(3)
    layers = unit_graph(architecture).layers
    counts = {
        layer.name: torch.randint(70, 101, (len(LABELS), layer.units), dtype=torch.int32, generator=generator)
        for layer in layers
    }
    units = {layer.name: torch.arange(layer.units) for layer in layers}
    return decomposed(trained, ActivationCounts(counts, units, (100,) * len(LABELS)), TAU)


def elements(model: ModularModel, label: str) -> set[tuple[str, int]]:
    """Every parameter element that one class's module holds, by name and place in the original."""
    graph = unit_graph(model.architecture)
    planned = composition_plan(model, [label])
    found: set[tuple[str, int]] = set()
    for name in set(planned.held) & graph.parameter_names:
        places = torch.arange(torch.Size(graph.state_shapes[name]).numel()).reshape(graph.state_shapes[name])
        for axis, kept in enumerate(planned.held[name]):
            places = places if kept is None else places.index_select(axis, torch.from_numpy(kept))
        found |= {(name, place) for place in places.flatten().tolist()}
    return found


@pytest.mark.parametrize(("name", "width"), [("lenet5", 1.0), ("resnet18", 0.125), ("mobilenet", 0.125)])
def test_sizes_and_overlaps_are_those_of_counting_element_by_element(name: str, width: float) -> None:
    model = modular(name, width)
    total = unit_graph(model.architecture).parameters
    held = {label: elements(model, label) for label in LABELS}
    measured = module_measures(model)
    assert measured.sizes == pytest.approx({label: len(held[label]) / total for label in LABELS})
    for first, second in combinations(LABELS, 2):
        assert measured.overlaps[first][second] == pytest.approx(len(held[first] & held[second]) / total)


def test_every_unordered_pair_is_measured_once() -> None:
    overlaps = module_measures(modular("lenet5", 1.0)).overlaps
    pairs = [(first, second) for first, others in overlaps.items() for second in others]
    assert sorted(pairs) == sorted(combinations(LABELS, 2))


def test_the_mean_overlap_is_over_pairs_and_the_mean_size_over_classes() -> None:
    measured = module_measures(modular("lenet5", 1.0))
    shares = [share for others in measured.overlaps.values() for share in others.values()]
    assert len(shares) == 6
    assert measured.mean_overlap == pytest.approx(sum(shares) / 6)
    assert measured.mean_size == pytest.approx(sum(measured.sizes.values()) / 4)


def test_the_size_is_what_the_sliced_model_really_holds() -> None:
    model = modular("resnet18", 0.125)
    composed = compose(model, ["bee", "dog"])
    size = composition_size(composed)
    assert size.kept_parameters == sum(parameter.numel() for parameter in network(composed).parameters())
    assert size.original_parameters == sum(parameter.numel() for parameter in build(model.architecture).parameters())


def test_the_overlap_of_a_composition_is_that_of_its_own_classes_modules() -> None:
    model = modular("lenet5", 1.0)
    overlaps = module_measures(model).overlaps
    composed = compose(model, ["dog", "ant"])
    assert composition_size(composed).overlap == pytest.approx(overlaps["ant"]["dog"])
    assert composition_size(composed, overlaps).overlap == overlaps["ant"]["dog"]


def test_one_class_alone_overlaps_with_nothing() -> None:
    assert composition_size(compose(modular("lenet5", 1.0), ["cow"])).overlap == 0


def test_without_dropping_a_module_is_never_smaller() -> None:
    model = modular("mobilenet", 0.125)
    dropped, whole = module_measures(model).sizes, module_measures(model, drop=False).sizes
    assert all(dropped[label] <= whole[label] for label in LABELS)


def test_modules_only_shrink_as_the_threshold_grows() -> None:
    model = modular("resnet18", 0.125)
    sizes = [module_measures(model, Decimal(tau)).mean_size for tau in ("0", "0.75", "0.9", "0.99", "1")]
    assert sizes == sorted(sizes, reverse=True)
    # At 0 all that is missing are the other classes' rows of the last layer.
    architecture = model.architecture
    last = build(architecture).state_dict()["fc.weight"].shape[1] + 1
    parameters = unit_graph(architecture).parameters
    assert sizes[0] == pytest.approx((parameters - 3 * last) / parameters)


def test_the_whole_network_costs_what_all_its_units_cost() -> None:
    model = modular("resnet18", 0.125)
    every = composition_plan(model, LABELS, Decimal(0))
    assert every.flops == whole_flops(unit_graph(model.architecture))
