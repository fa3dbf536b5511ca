"""What rows of raw results say together: means as the paper takes them, and what lies behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from statistics import fmean

from experiments.evaluation import share
from experiments.results import Row

__all__ = ["ReuseSummary", "best_threshold", "by_size", "most_images", "of_kind", "reuse_summaries"]

_POINTS = Fraction(3, 100)
"""Losses above this are counted (section 5.2)."""


@dataclass(frozen=True)
class ReuseSummary:
    """Sub-tasks of one approach at one τ (None for the uncut standard model), over all seeds.

    Attributes:
        tasks: rows that the means are over.
        accuracy: mean over sub-tasks.
        kept: mean share of the model's parameters.
        worst: the largest loss against ST on the same sub-task under the same seed; None without ST.
        lost: sub-tasks that lose more than 3 points.
    """

    approach: str
    threshold: str | None
    tasks: int
    accuracy: float
    kept: float
    worst: float | None
    lost: int | None


def of_kind(rows: Iterable[Row], kind: str) -> list[Row]:
    """The rows of a kind."""
    return [row for row in rows if row["kind"] == kind]


def most_images(rows: Sequence[Row]) -> list[Row]:
    """Of rows of reuse on different numbers of test images per class, those on the most (None is all)."""
    numbers = {row["images_per_class"] for row in rows}
    most = None if None in numbers else max(numbers, default=None)
    return [row for row in rows if row["images_per_class"] == most]


def reuse_summaries(rows: Sequence[Row]) -> list[ReuseSummary]:
    """One summary per approach and τ, in the order of their rows."""
    standard = {_subtask(row): _exact(row) for row in rows if row["approach"] == "ST"}
    groups: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["approach"], row["threshold"]].append(row)
    return [_summary(*group, members, standard) for group, members in groups.items()]


def by_size(rows: Iterable[Row], measure: Callable[[Row], float]) -> dict[str, dict[int, list[float]]]:
    """A measure of each sub-task, by approach and number of classes."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["approach"]][len(row["classes"])].append(measure(row))
    return {approach: dict(sizes) for approach, sizes in found.items()}


def best_threshold(points: Iterable[tuple[Decimal, float, float]]) -> Decimal:
    """The paper's choice among (τ, accuracy, size): the largest difference; the lowest τ on ties."""
    return max(sorted(points), key=lambda point: point[1] - point[2])[0]


def _summary(
    approach: str, threshold: str | None, rows: Sequence[Row], standard: dict[tuple[object, ...], Fraction]
) -> ReuseSummary:
    losses = [standard[_subtask(row)] - _exact(row) for row in rows if _subtask(row) in standard]
    return ReuseSummary(
        approach=approach,
        threshold=threshold,
        tasks=len(rows),
        accuracy=fmean(share(row["accuracy"]) for row in rows),
        kept=fmean(
            row["kept_parameters"] / row["original_parameters"] if "kept_parameters" in row else 1 for row in rows
        ),
        worst=float(max(losses)) if losses else None,
        lost=sum(loss > _POINTS for loss in losses) if losses else None,
    )


def _exact(row: Row) -> Fraction:
    return Fraction(row["accuracy"]["correct"], row["accuracy"]["n"])


def _subtask(row: Row) -> tuple[object, ...]:
    return row["seed"], row["images_per_class"], tuple(row["classes"])
