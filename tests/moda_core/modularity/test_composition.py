"""Composition: closed, exact, and refusing what cannot be."""

from decimal import Decimal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moda_core.errors import Conflict, InvalidInput, NotFound
from moda_core.modularity.composition import check_threshold, compose, composition_plan
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

LABELS = ("a", "b", "c", "d")
SAMPLES = 20
NETWORKS = [
    ("mobilenet", 0.02), ("mobilenet", 0.1), ("resnet18", 0.1), ("cnn", 0.25), ("vgg16", 0.05), ("lenet5", 1.0),
    ("cnn-gelu", 0.25), ("vit", 0.5),
]  # fmt: skip


def modular(name="cnn", width=0.25, seed=0, threshold="0"):
    """A network with random weights and random counts, at the least threshold."""
    size = 16 if name in {"cnn", "cnn-gelu"} else 32
    architecture = ArchitectureSpec(name=name, classes=len(LABELS), channels=3, image_size=size, width=width)
    generator = torch.Generator().manual_seed(seed)
    counts = {
        layer.name: torch.randint(0, SAMPLES + 1, (len(LABELS), layer.units), generator=generator, dtype=torch.int32)
        for layer in unit_graph(architecture).layers
    }
    units = {layer: torch.arange(count.shape[1]) for layer, count in counts.items()}
    rule = InputSpec(image_size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ModularModel(
        architecture=architecture,
        labels=LABELS,
        rows=tuple(range(len(LABELS))),
        input=rule,
        weights=initial_network(architecture, seed).state_dict(),
        counts=ActivationCounts(counts=counts, units=units, samples=(SAMPLES,) * len(LABELS)),
        threshold=Decimal(threshold),
    )


def assert_same(one, other):
    """Bit for bit: indices, tensors, counts, and what says so."""
    for name in ("architecture", "labels", "rows", "input", "threshold", "composed"):
        assert getattr(one, name) == getattr(other, name)
    assert_same_tensors(one.weights, other.weights)
    assert_same_tensors(one.counts.counts, other.counts.counts)
    assert_same_tensors(one.counts.units, other.counts.units)
    assert one.counts.samples == other.counts.samples
    assert set(one.held) == set(other.held)
    for name, axes in one.held.items():
        for axis, beside in zip(axes, other.held[name], strict=True):
            assert (axis is None) == (beside is None)
            assert axis is None or torch.equal(axis, beside)


def assert_same_tensors(one, other):
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


thresholds = st.integers(0, 100).map(lambda number: Decimal(number).scaleb(-2))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(NETWORKS), st.integers(0, 1000), st.sets(st.sampled_from(LABELS), min_size=1), st.data())
def test_composing_a_composition_is_composing_the_root(network, seed, classes, data):
    root = modular(*network, seed=seed)
    fewer = data.draw(st.sets(st.sampled_from(sorted(classes)), min_size=1))
    low, high = sorted(data.draw(st.tuples(thresholds, thresholds)))
    assert_same(compose(compose(root, sorted(classes), low), sorted(fewer), high), compose(root, sorted(fewer), high))


def test_a_composition_at_an_equal_threshold_of_all_its_classes_is_itself():
    composed = compose(modular(), ["c", "a"], Decimal("0.8"))
    assert_same(compose(composed, ["a", "c"]), composed)


def test_the_order_in_which_classes_are_named_does_not_matter():
    assert_same(compose(modular(), ["d", "b"]), compose(modular(), ["b", "d"]))


def test_labels_and_rows_are_in_the_roots_order():
    composed = compose(modular(), ["d", "b"])
    assert (composed.labels, composed.rows) == (("b", "d"), (1, 3))
    assert compose(composed, ["d"]).rows == (3,)


def test_counts_are_kept_for_every_unit_of_the_mask_also_where_weights_were_dropped():
    """By hand: two classes, one layer; the mask of {b} at 0.9 is units 1 and 3."""
    root = modular("lenet5", 1.0)
    first = next(iter(root.counts.counts))
    root.counts.counts[first][1] = torch.tensor([17, 18, 0, 20, 3, 0], dtype=torch.int32)
    composed = compose(root, ["b"], Decimal("0.9"))
    assert composed.counts.units[first].tolist() == [1, 3]
    assert composed.counts.counts[first].tolist() == [[18, 20]]


def test_what_is_composed_holds_what_its_plan_says():
    root = modular("resnet18", 0.1)
    composed, planned = compose(root, ["a"], Decimal("0.8")), composition_plan(root, ["a"], Decimal("0.8"))
    parameters = {name for name in composed.weights if name in planned.graph.parameter_names}
    assert sum(composed.weights[name].numel() for name in parameters) == planned.parameters
    assert {name: tuple(weight.shape) for name, weight in composed.weights.items()} == {
        name: planned.shape(name) for name in planned.held
    }


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(NETWORKS), thresholds, thresholds)
def test_compositions_only_shrink_as_the_threshold_grows_and_classes_go(network, one, other):
    low, high = sorted((one, other))
    root = modular(*network)
    large = composition_plan(root, ["a", "b"], low)
    assert composition_plan(root, ["a", "b"], high).parameters <= large.parameters
    assert composition_plan(root, ["b"], low).flops <= large.flops


def test_a_composed_models_threshold_may_rise_and_not_fall():
    composed = compose(modular(), ["a", "b"], Decimal("0.5"))
    assert compose(composed, ["a"], Decimal("0.7")).threshold == Decimal("0.7")
    with pytest.raises(Conflict, match=r"at least 0\.5"):
        compose(composed, ["a"], Decimal("0.4"))


def test_an_uncut_model_may_be_composed_at_any_threshold():
    assert check_threshold(modular(threshold="0.9"), Decimal("0.1")) == Decimal("0.1")
    assert check_threshold(modular(threshold="0.9"), None) == Decimal("0.9")


@pytest.mark.parametrize(
    ("classes", "error"),
    [([], InvalidInput), (["a", "a"], InvalidInput), ([""], InvalidInput), (["zebra"], NotFound)],
)
def test_classes_that_cannot_be_composed_are_refused(classes, error):
    with pytest.raises(error):
        compose(modular(), classes)


def test_a_class_that_was_cut_away_is_not_found():
    with pytest.raises(NotFound, match="the model has a, b"):
        compose(compose(modular(), ["a", "b"]), ["c"])


def test_a_model_that_was_never_decomposed_is_refused():
    root = modular()
    with pytest.raises(Conflict, match="never decomposed"):
        compose(TrainedModel(root.architecture, root.labels, root.input, root.weights), ["a"])


def test_a_patched_model_is_refused():
    root = modular()
    patched = PatchedModel(root, compose(root, ["a"]), "a", torch.eye(4), torch.zeros(4))
    with pytest.raises(Conflict, match="patched"):
        compose(patched, ["a"])
