"""What a program prints at its end: its file, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from statistics import fmean

from experiments.evaluation import share
from experiments.results import ResultFile, Row
from experiments.summaries import ReuseSummary, best_threshold, most_images, of_kind, reuse_summaries

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
    summaries = reuse_summaries(most_images(of_kind(file.measured(), "reuse")))
    modules = {(row["approach"], row["threshold"]): row for row in of_kind(file.measured(), "modules")}
    show(file, [_reuse_line(one, modules.get((one.approach, one.threshold))) for one in summaries])
    for approach in dict.fromkeys(one.approach for one in summaries):
        points = [
            (Decimal(one.threshold), one.accuracy, modules[approach, one.threshold]["size"])
            for one in summaries
            if one.approach == approach and one.threshold is not None
        ]
        if len(points) > 1:
            print(f"{approach}: accuracy and module size differ most at τ = {best_threshold(points)}")


def show_weights(file: ResultFile) -> None:
    """Losses, accuracy and modules by alpha, beta, gamma, means over seeds."""
    rows = of_kind(file.measured(), "weights")
    keys = dict.fromkeys((row["alpha"], row["beta"], row["gamma"]) for row in rows)
    show(file, [_weights_line(key, [row for row in rows if _weighting(row) == key]) for key in keys])


def _reuse_line(one: ReuseSummary, modules: Row | None) -> dict[str, Cell]:
    return {
        "approach": one.approach,
        "τ": one.threshold,
        "sub-tasks": one.tasks,
        "accuracy, %": 100 * one.accuracy,
        "kept, %": 100 * one.kept,
        "worst loss, points": None if one.worst is None else 100 * one.worst,
        "> 3 points": one.lost,
        "module, %": None if modules is None else 100 * modules["size"],
        "overlap, %": None if modules is None else 100 * modules["overlap"],
    }


def _weights_line(key: tuple[float, ...], rows: Sequence[Row]) -> dict[str, Cell]:
    weighting = zip(("alpha", "beta", "gamma"), (f"{value:g}" for value in key), strict=True)
    return {
        **dict(weighting),
        **{name: fmean(row["losses"][name] for row in rows) for name in rows[0]["losses"]},
        "accuracy, %": 100 * fmean(share(row["accuracy"]) for row in rows),
        "module, %": 100 * fmean(row["size"] for row in rows),
        "overlap, %": 100 * fmean(row["overlap"] for row in rows),
    }


def _weighting(row: Row) -> tuple[float, ...]:
    return row["alpha"], row["beta"], row["gamma"]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
