"""What rows of raw results say together: means as the paper takes them, and what lies behind them.

Seeds come first: a sub-task's accuracy, size and loss are means over the seeds it was measured under; the mean, the
worst and the number of large losses are then over sub-tasks, as many as the paper counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from statistics import fmean
from typing import TypeVar

from experiments.records.result_file import Row

__all__ = [
    "ModuleSummary",
    "ReuseSummary",
    "ThresholdPoint",
    "best_threshold",
    "by_size",
    "grouped",
    "layer_overlaps",
    "module_summaries",
    "most_images",
    "of_kind",
    "reuse_summaries",
    "seeds",
    "share",
    "subtask",
    "threshold_points",
    "weighting",
]

_Key = TypeVar("_Key", bound=Hashable)
_POINTS = Fraction(3, 100)
"""Losses above this are counted (section 5.2)."""


@dataclass(frozen=True)
class ReuseSummary:
    """Sub-tasks of one approach at one τ (None for the uncut standard model), each a mean over its seeds.

    Attributes:
        tasks: different sub-tasks.
        accuracy: mean over sub-tasks, like the next two.
        kept: share of the model's parameters.
        flops: share of the model's FLOPs.
        loss: mean loss against ST on the same sub-tasks under the same seeds; None without ST, like the next two.
        worst: the largest loss of a sub-task.
        lost: sub-tasks that lose more than 3 points.
        compared: sub-tasks that ST was measured on, too.
    """

    approach: str
    threshold: str | None
    tasks: int
    accuracy: float
    kept: float
    flops: float
    loss: float | None
    worst: float | None
    lost: int | None
    compared: int


@dataclass(frozen=True)
class ModuleSummary:
    """Modules of one approach at one τ, mean over seeds, as shares of the model."""

    size: float
    overlap: float
    size_undropped: float
    overlap_undropped: float


@dataclass(frozen=True)
class ThresholdPoint:
    """A point of figure 4; the size is as the paper counts."""

    threshold: Decimal
    accuracy: float
    size: float


def of_kind(rows: Iterable[Row], kind: str) -> list[Row]:
    """The rows of a kind."""
    return [row for row in rows if row["kind"] == kind]


def grouped(rows: Iterable[Row], key: Callable[[Row], _Key]) -> dict[_Key, list[Row]]:
    """Rows by a key, in the order in which keys first appear."""
    found: dict[_Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def seeds(rows: Iterable[Row]) -> int:
    """How many different seeds rows have."""
    return len({row["seed"] for row in rows})


def subtask(row: Row) -> tuple[int, ...]:
    """The classes of a row of reuse."""
    return tuple(row["classes"])


def share(accuracy: Mapping[str, int]) -> float:
    """``{"correct": 3, "n": 4}`` as 0.75."""
    return accuracy["correct"] / accuracy["n"]


def weighting(row: Row) -> tuple[float, float, float]:
    """Alpha, beta and gamma of a row."""
    return row["alpha"], row["beta"], row["gamma"]


def most_images(rows: Sequence[Row]) -> list[Row]:
    """Of rows of reuse on different numbers of test images per class, those on the most (None is all)."""
    numbers = {row["images_per_class"] for row in rows}
    most = None if None in numbers else max(numbers, default=None)
    return [row for row in rows if row["images_per_class"] == most]


def reuse_summaries(rows: Sequence[Row]) -> list[ReuseSummary]:
    """One summary per approach and τ, in the order of their rows."""
    standard = {(row["seed"], subtask(row)): _exact(row) for row in rows if row["approach"] == "ST"}
    groups = grouped(rows, lambda row: (row["approach"], row["threshold"]))
    return [_summary(*group, members, standard) for group, members in groups.items()]


def module_summaries(rows: Iterable[Row]) -> dict[tuple[str, str], ModuleSummary]:
    """Modules by approach and τ, from rows of all kinds."""
    groups = grouped(of_kind(rows, "modules"), lambda row: (row["approach"], row["threshold"]))
    names = ("size", "overlap", "size_undropped", "overlap_undropped")
    return {
        group: ModuleSummary(*(fmean(row[name] for row in members) for name in names))
        for group, members in groups.items()
    }


def layer_overlaps(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """What two modules share of each layer as the paper counts, mean over seeds, by approach; at the last τ measured."""
    last = {row["approach"]: row["threshold"] for row in of_kind(rows, "modules") if row.get("layers_undropped")}
    found = {}
    for approach, threshold in last.items():
        about = [
            row for row in of_kind(rows, "modules") if (row["approach"], row["threshold"]) == (approach, threshold)
        ]
        layers = [row["layers_undropped"] for row in about if row.get("layers_undropped")]
        found[approach] = {name: fmean(each[name] for each in layers) for name in layers[0]}
    return found


def by_size(rows: Iterable[Row], measure: Callable[[Row], float]) -> dict[str, dict[int, list[float]]]:
    """A measure of each sub-task, mean over its seeds, by approach and number of classes."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (approach, classes), alike in grouped(rows, lambda row: (str(row["approach"]), subtask(row))).items():
        found[approach][len(classes)].append(fmean(map(measure, alike)))
    return {approach: dict(sizes) for approach, sizes in found.items()}


def threshold_points(rows: Sequence[Row]) -> dict[str, list[ThresholdPoint]]:
    """Figure 4 by approach, in the order of τ, from rows of all kinds; a τ without its modules is left out."""
    modules = module_summaries(rows)
    found: dict[str, list[ThresholdPoint]] = defaultdict(list)
    for one in reuse_summaries(most_images(of_kind(rows, "reuse"))):
        about = None if one.threshold is None else modules.get((one.approach, one.threshold))
        if one.threshold is not None and about is not None:
            found[one.approach].append(ThresholdPoint(Decimal(one.threshold), one.accuracy, about.size_undropped))
    return {approach: sorted(points, key=lambda point: point.threshold) for approach, points in found.items()}


def best_threshold(points: Iterable[ThresholdPoint]) -> Decimal:
    """The paper's choice: the largest difference between accuracy and size; the lowest τ on ties."""
    ordered = sorted(points, key=lambda point: point.threshold)
    return max(ordered, key=lambda point: point.accuracy - point.size).threshold


def _summary(
    approach: str, threshold: str | None, rows: Sequence[Row], standard: Mapping[tuple[int, tuple[int, ...]], Fraction]
) -> ReuseSummary:
    tasks = grouped(rows, subtask).values()
    losses = [loss for alike in tasks if (loss := _loss(alike, standard)) is not None]
    return ReuseSummary(
        approach=approach,
        threshold=threshold,
        tasks=len(tasks),
        accuracy=fmean(fmean(share(row["accuracy"]) for row in alike) for alike in tasks),
        kept=fmean(fmean(_share_kept(row, "parameters") for row in alike) for alike in tasks),
        flops=fmean(fmean(_share_kept(row, "flops") for row in alike) for alike in tasks),
        loss=fmean(losses) if losses else None,
        worst=float(max(losses)) if losses else None,
        lost=sum(loss > _POINTS for loss in losses) if losses else None,
        compared=len(losses),
    )


def _loss(alike: Sequence[Row], standard: Mapping[tuple[int, tuple[int, ...]], Fraction]) -> Fraction | None:
    """What a sub-task loses, mean over the seeds that ST has, too."""
    keys = [(row["seed"], subtask(row)) for row in alike]
    losses = [standard[key] - _exact(row) for key, row in zip(keys, alike, strict=True) if key in standard]
    return sum(losses, Fraction()) / len(losses) if losses else None


def _share_kept(row: Row, name: str) -> float:
    """1 for the uncut standard model."""
    return float(row[f"kept_{name}"] / row[f"original_{name}"]) if f"kept_{name}" in row else 1.0


def _exact(row: Row) -> Fraction:
    return Fraction(row["accuracy"]["correct"], row["accuracy"]["n"])
