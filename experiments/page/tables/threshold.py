"""RQ4 in tables: reuse accuracy and module size by the threshold τ (figure 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import (
    ModuleSummary,
    ReuseSummary,
    best_threshold,
    module_summaries,
    reuse_summaries,
    threshold_points,
)
from experiments.page.markdown import NOTHING, percent, table
from experiments.page.tables.reuse import numbers_of, reuse_rows
from experiments.paper import study

__all__ = ["best_of", "finding", "of_one", "unmeasured"]


def of_one(file: Evidence) -> str:
    """Figure 4 in numbers, a row for each τ and approach."""
    columns = ["τ, approach", "reuse accuracy, %", "module size, %", "as the paper counts, %", "composed weights, %"]
    modules = module_summaries(file.rows())
    summaries = [one for one in reuse_summaries(reuse_rows(file)) if one.threshold is not None]
    rows = reuse_rows(file)
    lines = []
    for one in sorted(summaries, key=lambda one: (float(one.threshold or 0), one.approach)):
        own = [row for row in rows if (row["approach"], row["threshold"]) == (one.approach, one.threshold)]
        lines.append([*_cells(one, modules.get((one.approach, one.threshold or ""))), *numbers_of(own)])
    return table([*columns, "sub-tasks", "n", "seeds"], lines)


def best_of(file: Evidence) -> str:
    """Which τ is the most accurate, which the smallest, and which the paper's rule would choose, for MODA."""
    points = threshold_points(file.rows()).get("MODA", [])
    if len(points) < 2:
        return ""
    accurate = max(points, key=lambda point: point.accuracy).threshold
    small = min(points, key=lambda point: point.size).threshold
    return (
        f"MODA is most accurate at τ = {accurate} and its modules, as the paper counts, are smallest at {small}; the"
        f" difference of the two is largest at {best_threshold(points)}. The paper says 0.8, 0.95 and 0.9.\n"
    )


def finding(file: Evidence) -> str:
    """From the lowest to the highest τ, in a line."""
    points = threshold_points(file.rows()).get("MODA", [])
    if len(points) < 2:
        return ""
    said = [f"{percent(point.accuracy)} % with modules of {percent(point.size)} %" for point in (points[0], points[-1])]
    return (
        f"MODA's reuse accuracy is {said[0]} of the weights at τ = {points[0].threshold}, {said[1]} at"
        f" {points[-1].threshold}"
    )


def unmeasured(files: Sequence[Evidence]) -> list[str]:
    """Cases of the paper that lack a τ for MODA, each with what it lacks."""
    found = []
    for model, dataset in study.CASES:
        file = next((one for one in files if (one.model, one.dataset) == (model, dataset)), None)
        points = [] if file is None else threshold_points(file.rows()).get("MODA", [])
        measured = {format(point.threshold, "f") for point in points}
        lacking = [threshold for threshold in study.THRESHOLDS if threshold not in measured]
        if lacking:
            found.append(f"{model} on {dataset}" + (f" (τ = {', '.join(lacking)})" if measured else ""))
    return found


def _cells(one: ReuseSummary, found: ModuleSummary | None) -> list[str]:
    sizes = [NOTHING] * 2 if found is None else [percent(found.size), percent(found.size_undropped)]
    return [f"{one.threshold}, {one.approach}", percent(one.accuracy), *sizes, percent(one.kept)]
