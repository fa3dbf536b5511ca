"""Means and losses, worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from experiments.evidence.summaries import (
    ThresholdPoint,
    best_threshold,
    by_size,
    layer_overlaps,
    most_images,
    of_kind,
    reuse_summaries,
    share,
    threshold_points,
)
from experiments.records.result_file import Row


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


def kept(share: int) -> dict[str, int]:
    return {"kept_parameters": share, "original_parameters": 100, "kept_flops": 2 * share, "original_flops": 400}


ROWS = [
    row("ST", [0, 1], 90),
    row("ST", [0, 2], 80),
    row("ST", [0, 1, 2], 70),
    row("MODA", [0, 1], 86, **kept(10)),
    row("MODA", [0, 2], 77, **kept(20)),
    row("MODA", [0, 1, 2], 71, **kept(60)),
    row("MODA", [0, 1, 2], 51, seed=1, **kept(30)),
]


def test_means_are_over_sub_tasks_and_losses_against_the_same_sub_task_and_seed() -> None:
    standard, moda = reuse_summaries(ROWS)
    assert (standard.approach, standard.threshold, standard.tasks, standard.kept) == ("ST", None, 3, 1)
    assert standard.accuracy == pytest.approx(0.8)
    assert (standard.worst, standard.lost) == (0, 0)
    assert (moda.approach, moda.threshold, moda.tasks, moda.compared) == ("MODA", "0.9", 3, 3)
    assert moda.accuracy == pytest.approx((0.86 + 0.77 + (0.71 + 0.51) / 2) / 3)
    assert moda.kept == pytest.approx((0.1 + 0.2 + 0.45) / 3)
    assert moda.flops == pytest.approx(moda.kept / 2)
    assert moda.loss == pytest.approx((0.04 + 0.03 - 0.01) / 3)
    assert moda.worst == pytest.approx(0.04)
    assert moda.lost == 1


def test_a_sub_task_is_averaged_over_seeds_before_the_worst_is_taken() -> None:
    """5 and 1 points lost under two seeds are 3, not more than 3, though one seed alone lost 5."""
    rows = [row("ST", [0, 1], 90, seed=seed) for seed in (0, 1)]
    (_, moda) = reuse_summaries([*rows, row("MODA", [0, 1], 85), row("MODA", [0, 1], 89, seed=1)])
    assert (moda.tasks, moda.worst, moda.lost, moda.compared) == (1, pytest.approx(0.03), 0, 1)


def test_without_the_standard_model_there_is_no_loss() -> None:
    (moda,) = reuse_summaries(ROWS[3:])
    assert moda.worst is None
    assert moda.lost is None


def test_exactly_three_points_are_not_more_than_three() -> None:
    assert reuse_summaries([row("ST", [0, 2], 80), row("MODA", [0, 2], 77)])[1].lost == 0


def test_measures_are_gathered_by_approach_and_size() -> None:
    found = by_size(ROWS, lambda one: one["accuracy"]["correct"])
    assert found == {"ST": {2: [90, 80], 3: [70]}, "MODA": {2: [86, 77], 3: [61]}}


def test_the_papers_choice_is_the_largest_difference() -> None:
    """Its own words: 0.9, by the maximum difference between accuracy and size; the numbers are made up."""
    points = [("0.1", 0.9, 0.5), ("0.8", 0.95, 0.12), ("0.9", 0.94, 0.08), ("0.95", 0.8, 0.02)]
    assert best_threshold([ThresholdPoint(Decimal(tau), *numbers) for tau, *numbers in points]) == Decimal("0.9")


def test_points_of_figure_4_take_sizes_as_the_paper_counts_and_leave_out_what_has_no_modules() -> None:
    sizes = {"size": 0.1, "overlap": 0.1, "overlap_undropped": 0.1}
    modules = [
        {"kind": "modules", "approach": "MODA", "seed": seed, "threshold": "0.9", "size_undropped": size, **sizes}
        for seed, size in ((0, 0.2), (1, 0.4))
    ]
    rows = [row("MODA", [0, 1], 80), row("MODA", [0, 1], 90) | {"threshold": "0.5"}, row("ST", [0, 1], 90)]
    (point,) = threshold_points([*modules, *rows])["MODA"]
    assert (point.threshold, point.accuracy) == (Decimal("0.9"), 0.8)
    assert point.size == pytest.approx(0.3)


def test_overlaps_of_layers_are_means_over_seeds() -> None:
    modules = [
        {"kind": "modules", "approach": "MODA", "seed": seed, "threshold": "0.9", "layers_undropped": {"conv": share}}
        for seed, share in ((0, 0.5), (1, 0.75))
    ]
    assert layer_overlaps(modules) == {"MODA": {"conv": 0.625}}


def test_kinds_are_told_apart() -> None:
    assert of_kind([{"kind": "modules"}, *ROWS], "modules") == [{"kind": "modules"}]


def test_rows_on_fewer_images_give_way_to_those_on_more() -> None:
    few, more, every = ([row("MODA", [0, 1], 1) | {"images_per_class": number}] for number in (10, 20, None))
    assert most_images(few + more + few) == more
    assert most_images(few + every + more) == every
    assert most_images([]) == []


def test_a_share_is_what_was_right() -> None:
    assert share({"correct": 3, "n": 4}) == 0.75
