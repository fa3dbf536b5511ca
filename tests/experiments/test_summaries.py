"""Means and losses, worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from experiments.results import Row
from experiments.summaries import best_threshold, by_size, most_images, of_kind, reuse_summaries


def row(approach: str, classes: list[int], correct: int, seed: int = 0, **more: object) -> Row:
    return {
        "kind": "reuse",
        "approach": approach,
        "seed": seed,
        "threshold": None if approach == "ST" else "0.9",
        "images_per_class": None,
        "classes": classes,
        "accuracy": {"correct": correct, "n": 100},
        **more,
    }


ROWS = [
    row("ST", [0, 1], 90),
    row("ST", [0, 2], 80),
    row("ST", [0, 1, 2], 70),
    row("MODA", [0, 1], 86, kept_parameters=10, original_parameters=100),
    row("MODA", [0, 2], 77, kept_parameters=20, original_parameters=100),
    row("MODA", [0, 1, 2], 71, kept_parameters=60, original_parameters=100),
    row("MODA", [0, 1, 2], 50, seed=1, kept_parameters=30, original_parameters=100),
]


def test_means_are_over_sub_tasks_and_losses_against_the_same_sub_task_and_seed() -> None:
    standard, moda = reuse_summaries(ROWS)
    assert (standard.approach, standard.threshold, standard.tasks, standard.kept) == ("ST", None, 3, 1)
    assert standard.accuracy == pytest.approx(0.8)
    assert (standard.worst, standard.lost) == (0, 0)
    assert (moda.approach, moda.threshold, moda.tasks) == ("MODA", "0.9", 4)
    assert moda.accuracy == pytest.approx(0.71)
    assert moda.kept == pytest.approx(0.3)
    assert moda.worst == pytest.approx(0.04)
    assert moda.lost == 1


def test_without_the_standard_model_there_is_no_loss() -> None:
    (moda,) = reuse_summaries(ROWS[3:])
    assert moda.worst is None
    assert moda.lost is None


def test_exactly_three_points_are_not_more_than_three() -> None:
    assert reuse_summaries([row("ST", [0, 2], 80), row("MODA", [0, 2], 77)])[1].lost == 0


def test_measures_are_gathered_by_approach_and_size() -> None:
    found = by_size(ROWS, lambda one: one["accuracy"]["correct"])
    assert found == {"ST": {2: [90, 80], 3: [70]}, "MODA": {2: [86, 77], 3: [71, 50]}}


def test_the_papers_choice_is_the_largest_difference() -> None:
    """Its own words: 0.9, by the maximum difference between accuracy and size; the numbers are made up."""
    points = [("0.1", 0.9, 0.5), ("0.8", 0.95, 0.12), ("0.9", 0.94, 0.08), ("0.95", 0.8, 0.02)]
    assert best_threshold([(Decimal(tau), accuracy, size) for tau, accuracy, size in points]) == Decimal("0.9")


def test_kinds_are_told_apart() -> None:
    assert of_kind([{"kind": "modules"}, *ROWS], "modules") == [{"kind": "modules"}]


def test_rows_on_fewer_images_give_way_to_those_on_more() -> None:
    few, more, every = ([row("MODA", [0, 1], 1) | {"images_per_class": number}] for number in (10, 20, None))
    assert most_images(few + more + few) == more
    assert most_images(few + every + more) == every
    assert most_images([]) == []
