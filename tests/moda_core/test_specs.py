"""Specs: what they refuse, and that equal ones have equal digests."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moda_core.errors import InvalidInput
from moda_core.specs import (
    AdaptationSpec,
    ArchitectureSpec,
    InputSpec,
    TrainingSpec,
    canonical_json,
    check_labels,
    check_name,
    parse_threshold,
)

SPECS = [
    TrainingSpec(dataset="d", architecture="cnn", image_size=16, flip=False),
    AdaptationSpec(initial="normal"),
    ArchitectureSpec(name="cnn", classes=10, width=0.5),
    InputSpec(image_size=16, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_json_gives_back_the_spec(spec: Any) -> None:
    assert type(spec).from_json(spec.to_json()) == spec


def test_equal_specs_have_equal_digests_whole_numbers_or_not() -> None:
    one = TrainingSpec(dataset="d", architecture="cnn", alpha=1, learning_rate=1, width=2)
    other = TrainingSpec(dataset="d", architecture="cnn", alpha=1.0, learning_rate=1.0, width=2.0)
    assert one.digest() == other.digest()


def test_another_field_gives_another_digest() -> None:
    digests = {TrainingSpec(dataset="d", architecture="cnn", seed=seed).digest() for seed in range(3)}
    assert len(digests) == 3


def test_specs_of_different_kinds_have_different_digests() -> None:
    assert canonical_json({}) == "{}"
    assert AdaptationSpec().digest() != TrainingSpec(dataset="d", architecture="cnn").digest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pretrained", "no"),
        ("flip", "no"),
        ("dataset", 5),
        ("architecture", None),
        ("epochs", True),
        ("epochs", 1.0),
        ("epochs", 0),
        ("image_size", "big"),
        ("image_size", 7),
        ("alpha", "1"),
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("learning_rate", 0),
        ("momentum", 1),
        ("fraction", 0),
        ("fraction", 1.1),
        ("seed", -1),
        ("objective", "both"),
        ("weighting", "none"),
        ("batch_size", 0),
    ],
)
def test_a_wrong_value_is_refused_by_its_fields_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        TrainingSpec(**{"dataset": "d", "architecture": "cnn", field: value})
    assert raised.value.field == field
    assert raised.value.remedy


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvalidInput, match="learnig_rate"):
        TrainingSpec.from_json({"dataset": "d", "architecture": "cnn", "learnig_rate": 0.1})


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(InvalidInput, match="architecture"):
        TrainingSpec.from_json({"dataset": "d"})


@pytest.mark.parametrize("std", [0.0, 1e-300, 2.0, float("inf")])
def test_a_standard_deviation_that_cannot_divide_pixels_is_refused(std: float) -> None:
    with pytest.raises(InvalidInput, match="std"):
        InputSpec(image_size=8, channels=1, mean=(0.5,), std=(std,))


@given(st.decimals(min_value=0, max_value=1, places=4))
def test_a_threshold_is_exact_and_normalised(value: Decimal) -> None:
    parsed = parse_threshold(str(value))
    assert parsed == value
    assert parse_threshold(float(value)) == parsed
    assert format(parsed, "f") == format(parse_threshold(f"{value}0"), "f")


@pytest.mark.parametrize(
    "value",
    [
        "0.00001",
        "0.9" + "0" * 28 + "1",
        "1e-9999",
        " 0.9",
        "\u0660.\u0669",
        "nan",
        "",
        "-0.1",
        "1.0001",
        2,
        True,
        "1e9999",
    ],
)
def test_what_is_no_threshold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="threshold"):
        parse_threshold(value)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "..", "a" * 65, "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        check_name("name", name)


@pytest.mark.parametrize("name", ["a", "7", "digits-cnn", "a.b_c-9", "a" * 64])
def test_names_are_kept_as_they_are(name: str) -> None:
    assert check_name("name", name) == name


@pytest.mark.parametrize(("labels", "problem"), [([], "fewer than 1"), (["a", "b", "a"], "twice"), ([""], "label")])
def test_wrong_lists_of_classes_are_refused(labels: list[str], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        check_labels("classes", labels)
