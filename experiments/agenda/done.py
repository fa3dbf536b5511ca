"""Whether a result file has all that a measurement would add to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import product

from experiments.models.decomposition import exact
from experiments.records.result_file import ResultFile, Row
from experiments.setup.setting import Setting

__all__ = ["has_subtasks", "has_trainings"]


def has_trainings(setting: Setting, approaches: Sequence[str]) -> bool:
    """Whether every approach and seed has its row, be it that it failed."""
    file = ResultFile(setting.result_path("rq1"))
    wanted = product(approaches, setting.seeds)
    return all(file.has(kind="training", approach=approach, seed=seed) for approach, seed in wanted)


def has_subtasks(
    setting: Setting, question: str, approaches: Sequence[str], tasks: int, thresholds: Sequence[Decimal]
) -> bool:
    """Whether a file has rows of so many sub-tasks of one model, for every approach, seed and τ, or that it failed."""
    wanted = [
        (approach, seed, None if approach == "ST" else exact(threshold))
        for approach, seed, threshold in product(approaches, setting.seeds, thresholds)
    ]
    rows = ResultFile(setting.result_path(question)).measured()
    models = Counter((*_about(row), row.get("spec"), row.get("model")) for row in rows if _reused(row))
    most: Counter[tuple[object, ...]] = Counter()
    for key, number in models.items():
        most[key[:3]] = max(most[key[:3]], number)
    failed = {_about(row) for row in rows if row["kind"] == "modules" and "error" in row}
    return all(most[key] >= tasks or key in failed for key in wanted)


def _about(row: Row) -> tuple[object, ...]:
    return row["approach"], row["seed"], row["threshold"]


def _reused(row: Row) -> bool:
    """Whether a row is of a sub-task, on all test images."""
    return row["kind"] == "reuse" and row["images_per_class"] is None
