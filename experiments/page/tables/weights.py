"""RQ4 in tables: what the weights of the loss do, each changed while the others stand at the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import grouped, of_kind, seeds, share, weighting
from experiments.page.markdown import count, number, percent, table
from experiments.records.result_file import Row

__all__ = ["finding", "of_one"]

_LOSSES = ("affinity", "dispersion", "compactness")


def of_one(file: Evidence) -> str:
    """Test accuracy, the losses of the last epoch, and the modules, mean over seeds."""
    columns = [
        "alpha, beta, gamma",
        "test accuracy, %",
        *(f"{name} loss" for name in _LOSSES),
        "module size, %",
        "overlap, %",
    ]
    rows = of_kind(file.rows(), "weights")
    return table([*columns, "n", "seeds"], [_line(*group) for group in grouped(rows, weighting).items()])


def finding(file: Evidence) -> str:
    """The range of test accuracies and module sizes, in a line."""
    groups = grouped(of_kind(file.rows(), "weights"), weighting).values()
    accuracies = [fmean(share(row["accuracy"]) for row in rows) for rows in groups]
    sizes = [fmean(row["size"] for row in rows) for rows in groups]
    if not accuracies:
        return ""
    return (
        f"over {len(accuracies)} choices of alpha, beta, gamma test accuracy is {percent(min(accuracies))} to"
        f" {percent(max(accuracies))} %, module size {percent(min(sizes))} to {percent(max(sizes))} % of the weights"
    )


def _line(key: tuple[float, ...], rows: Sequence[Row]) -> list[str]:
    def mean(measure: Callable[[Row], float]) -> float:
        return fmean(measure(row) for row in rows)

    return [
        ", ".join(f"{value:g}" for value in key),
        percent(mean(lambda row: share(row["accuracy"]))),
        *(number(fmean(row["losses"][name] for row in rows), 4) for name in _LOSSES),
        percent(mean(lambda row: row["size"])),
        percent(mean(lambda row: row["overlap"])),
        " or ".join(count(n) for n in dict.fromkeys(row["accuracy"]["n"] for row in rows)),
        str(seeds(rows)),
    ]
