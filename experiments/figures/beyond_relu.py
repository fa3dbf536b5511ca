"""The figure of `experiments.beyond_relu`: accuracy of compositions and their size, by epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evidence.summaries import grouped, of_kind, share
from experiments.figures.style import save
from experiments.records.result_file import Row

__all__ = ["draw", "figure"]

_COLOURS = {"MODA": "#0072B2", "ST-composed": "#808080"}
_GELUS_LEAST = 0.17


def draw(results: Path, measured: Mapping[str, Sequence[Row]], epochs: int | None = None) -> None:
    """Write the figure of all models that have rows, as SVG and PNG."""
    found = {model: rows for model, rows in measured.items() if of_kind(rows, "reuse")}
    if found:
        suffix = "" if epochs is None else f"-e{epochs}"
        save(figure(found), results / "figures", f"beyond-relu-digits{suffix}")


def figure(measured: Mapping[str, Sequence[Row]]) -> Figure:
    """A panel per model: means over compositions and seeds, in percent."""
    whole = Figure(figsize=(3.6 * len(measured), 3.0), layout="constrained")
    for axes, (model, rows) in zip(whole.subplots(1, len(measured), squeeze=False).flat, measured.items(), strict=True):
        for approach in _COLOURS:
            _lines(axes, approach, [row for row in rows if row["kind"] == "reuse" and row["approach"] == approach])
        axes.axvline(_GELUS_LEAST, color="#cccccc", linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_title(f"{model} on digits")
        axes.set_xlabel("ε (grey: GELU's minimum, 0.17)")
        axes.set_ylabel("%")
    handles, names = whole.axes[0].get_legend_handles_labels()
    whole.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return whole


def _lines(axes: Axes, approach: str, rows: Sequence[Row]) -> None:
    alike = sorted(grouped(rows, lambda row: float(row["epsilon"])).items())
    epsilons = [epsilon for epsilon, _ in alike]
    accuracy = [100 * fmean(share(row["accuracy"]) for row in group) for _, group in alike]
    kept = [100 * fmean(row["kept_parameters"] / row["original_parameters"] for row in group) for _, group in alike]
    axes.plot(epsilons, accuracy, "-o", color=_COLOURS[approach], markersize=4, label=f"{approach}: accuracy")
    axes.plot(epsilons, kept, "--s", color=_COLOURS[approach], markersize=4, label=f"{approach}: parameters kept")
