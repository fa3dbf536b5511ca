"""What a program prints at its end: its file, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from experiments.evidence.files import evidence_of
from experiments.evidence.summaries import (
    ModuleSummary,
    ReuseSummary,
    best_threshold,
    grouped,
    module_summaries,
    most_images,
    of_kind,
    reuse_summaries,
    share,
    threshold_points,
    weighting,
)
from experiments.records.result_file import ResultFile, Row

__all__ = ["Cell", "show", "show_reuse", "show_weights"]

Cell = str | float | int | None


def show(file: ResultFile, rows: Sequence[dict[str, Cell]]) -> None:
    """The file's name and a table; numbers with a fraction are rounded to two places."""
    print(file.path)
    if not rows:
        return
    lines = [list(rows[0]), *([_shown(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_reuse(file: ResultFile) -> None:
    """Reuse by approach and τ, with the modules beside it; the paper's choice where there are several τ."""
    rows = evidence_of(file.path).rows()
    modules = module_summaries(rows)
    summaries = reuse_summaries(most_images(of_kind(rows, "reuse")))
    show(file, [_reuse_line(one, modules.get((one.approach, one.threshold or ""))) for one in summaries])
    for approach, points in threshold_points(rows).items():
        if len(points) > 1:
            print(f"{approach}: accuracy and module size differ most at τ = {best_threshold(points)}")


def show_weights(file: ResultFile) -> None:
    """Losses, accuracy and modules by alpha, beta, gamma, means over seeds."""
    rows = of_kind(evidence_of(file.path).rows(), "weights")
    show(file, [_weights_line(*group) for group in grouped(rows, weighting).items()])


def _reuse_line(one: ReuseSummary, modules: ModuleSummary | None) -> dict[str, Cell]:
    return {
        "approach": one.approach,
        "τ": one.threshold,
        "sub-tasks": one.tasks,
        "accuracy, %": 100 * one.accuracy,
        "kept, %": 100 * one.kept,
        "worst loss, points": None if one.worst is None else 100 * one.worst,
        "> 3 points": one.lost,
        "module, %": None if modules is None else 100 * modules.size,
        "as the paper counts": None if modules is None else 100 * modules.size_undropped,
        "overlap, %": None if modules is None else 100 * modules.overlap,
    }


def _weights_line(key: tuple[float, float, float], rows: Sequence[Row]) -> dict[str, Cell]:
    values = zip(("alpha", "beta", "gamma"), (f"{value:g}" for value in key), strict=True)
    return {
        **dict(values),
        **{name: fmean(row["losses"][name] for row in rows) for name in rows[0]["losses"]},
        "accuracy, %": 100 * fmean(share(row["accuracy"]) for row in rows),
        "module, %": 100 * fmean(row["size"] for row in rows),
        "overlap, %": 100 * fmean(row["overlap"] for row in rows),
    }


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
