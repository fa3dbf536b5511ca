"""Which units are in a module, worked by hand (eq. 9)."""

from decimal import Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moda_core.errors import InvalidInput
from moda_core.modularity.models import ActivationCounts, TrainedModel
from moda_core.modularity.modules import decomposed, unit_masks
from moda_core.specs import ArchitectureSpec, InputSpec


def counted(rows, samples, units=None):
    count = torch.tensor(rows, dtype=torch.int32)
    indices = torch.arange(count.shape[1]) if units is None else torch.tensor(units)
    return ActivationCounts(counts={"relu": count}, units={"relu": indices}, samples=samples)


def members(counts, positions, threshold, units=4):
    mask = unit_masks(counts, positions, Decimal(threshold), {"relu": units})["relu"]
    return mask.nonzero().flatten().tolist()


def test_a_unit_is_in_the_module_when_its_count_reaches_the_rounded_up_share():
    """ceil(0.9 * 11) = 10: nine of eleven are too few, ten are enough."""
    assert members(counted([[9, 10, 11, 0]], (11,)), [0], "0.9") == [1, 2]


def test_the_share_is_exact_where_floats_are_not():
    """0.07 * 100 is 7.000000000000001 in floats, whose ceiling is 8."""
    assert members(counted([[7, 6, 0, 0]], (100,)), [0], "0.07") == [0]


def test_at_threshold_0_every_unit_is_in_every_module():
    assert members(counted([[0, 0, 3, 0]], (5,)), [0], "0") == [0, 1, 2, 3]


def test_a_class_without_units_keeps_its_most_active_one_the_first_of_several():
    assert members(counted([[1, 3, 3, 0]], (10,)), [0], "0.9") == [1]


def test_a_class_that_never_activates_a_layer_keeps_its_first_unit():
    assert members(counted([[0, 0, 0, 0]], (10,)), [0], "0.9") == [0]


def test_the_fallback_is_decided_per_class_before_the_union():
    """Class 1 alone has no unit; that class 0 has some does not take its fallback away."""
    counts = counted([[10, 0, 0, 0], [0, 0, 2, 1]], (10, 10))
    assert members(counts, [0, 1], "0.9") == [0, 2]


def test_each_class_is_measured_by_its_own_number_of_samples():
    counts = counted([[4, 2, 0, 0], [4, 2, 0, 0]], (4, 10))
    assert (members(counts, [0], "0.5"), members(counts, [1], "0.5")) == ([0, 1], [0])


def test_held_units_are_named_by_the_roots_indices():
    assert members(counted([[5, 0]], (5,), units=[1, 3]), [0], "0.9") == [1]


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=3, max_size=3), st.permutations([0, 1, 2])
)
def test_permuting_classes_permutes_modules(rows, order):
    counts, permuted = counted(rows, (20, 20, 20)), counted([rows[place] for place in order], (20, 20, 20))
    assert [members(permuted, [place], "0.9") for place in range(3)] == [members(counts, [old], "0.9") for old in order]


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=3, max_size=3),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)
def test_modules_only_shrink_as_the_threshold_grows(rows, one, other):
    low, high = (str(Decimal(number).scaleb(-4)) for number in sorted((one, other)))
    counts = counted(rows, (20, 20, 20))
    assert set(members(counts, [0, 2], high)) <= set(members(counts, [0, 2], low))


@given(st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=3, max_size=3), st.integers(0, 10_000))
def test_a_composition_is_the_union_of_its_modules(rows, threshold):
    counts, tau = counted(rows, (20, 20, 20)), str(Decimal(threshold).scaleb(-4))
    union = set(members(counts, [0], tau)) | set(members(counts, [2], tau))
    assert set(members(counts, [0, 2], tau)) == union


def test_counts_of_another_network_are_refused():
    architecture = ArchitectureSpec(name="lenet5", classes=2, channels=1)
    rule = InputSpec(image_size=32, channels=1, mean=(0.5,), std=(0.5,))
    trained = TrainedModel(architecture, ("a", "b"), rule, {})
    with pytest.raises(InvalidInput, match="counts"):
        decomposed(trained, counted([[1, 1], [1, 1]], (2, 2)), Decimal("0.9"))
