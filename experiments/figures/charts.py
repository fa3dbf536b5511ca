"""The figures, drawn from plain numbers: what the rows mean is decided in `experiments.figures.drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import label, legend, line, look_of, panels

__all__ = [
    "composed_cost",
    "overlap_per_layer",
    "reuse_accuracy",
    "threshold",
    "training_curves",
    "training_time",
    "weights",
]

_MOST_BOXES = 12
Distributions = Mapping[str, Mapping[int, Sequence[float]]]
"""By approach and size of the sub-task, in classes."""


def reuse_accuracy(accuracies: Distributions) -> Figure:
    """Figure 3a: the accuracy of sub-tasks in percent, by their size.

    For few sizes: each approach's median, its middle half (thick) and all of it (thin). For many:
    the mean, and all between the least and the most.
    """
    figure, (axes,) = panels(width=7.2, height=3.4)
    sizes = sorted({size for by_size in accuracies.values() for size in by_size})
    for place, (approach, by_size) in enumerate(accuracies.items()):
        if len(sizes) <= _MOST_BOXES:
            _ranges(axes, approach, by_size, (place - (len(accuracies) - 1) / 2) * 0.8 / len(accuracies))
        else:
            _band(axes, approach, by_size)
    if len(sizes) <= _MOST_BOXES:
        axes.set_xticks(sizes)
        axes.grid(visible=False, axis="x")
    label(axes, "classes of the sub-task", "reuse accuracy, %")
    legend(figure, axes)
    return figure


def composed_cost(parameters: Distributions, flops: Distributions) -> Figure:
    """Figure 3b: what composed models hold and cost, as shares of the whole model in percent, by size."""
    figure, both = panels(width=7.2, height=3.2, columns=2)
    for axes, shares, name in zip(both, (parameters, flops), ("weights", "FLOPs"), strict=True):
        for approach, by_size in shares.items():
            _band(axes, approach, by_size)
        label(axes, "classes of the sub-task", f"{name} of the model, %")
        axes.set_ylim(bottom=0)
    legend(figure, both[0])
    return figure


def threshold(points: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """Figure 4: reuse accuracy and module size, both in percent, by τ.

    Args:
        points: (τ, accuracy, size) by approach.
    """
    figure, both = panels(width=7.2, height=3.0, columns=2)
    for axes, column, name in zip(
        both, (1, 2), ("reuse accuracy, %", "module size as the paper counts, %"), strict=True
    ):
        for approach, rows in points.items():
            ordered = sorted(rows)
            line(axes, approach, [row[0] for row in ordered], [row[column] for row in ordered])
        label(axes, "threshold τ", name)
    both[1].set_ylim(bottom=0)
    legend(figure, both[0])
    return figure


def overlap_per_layer(overlaps: Mapping[str, Mapping[str, float]]) -> Figure:
    """Mean overlap of two modules in each layer, in percent of the layer's weights, from the first to the last."""
    names = list(next(iter(overlaps.values())))
    figure, (axes,) = panels(width=max(5.0, 0.32 * len(names) + 1.5), height=3.4)
    for approach, by_layer in overlaps.items():
        line(axes, approach, range(len(names)), [by_layer.get(name, np.nan) for name in names])
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_ylim(-2, 102)
    label(axes, "", "weights that two modules share, %")
    legend(figure, axes)
    return figure


def weights(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """RQ4: what each weight of the loss does while the others stand at their defaults.

    Args:
        curves: by the weight's name, then by what was measured: (its value, the measure), the same measures for all.
    """
    measures = list(next(iter(curves.values())))
    figure, grid = panels(
        width=7.2, height=0.6 + 1.5 * len(measures), columns=len(curves), rows=len(measures), sharey="row"
    )
    for number, axes in enumerate(grid):
        (weight, by_measure), measure = list(curves.items())[number % len(curves)], measures[number // len(curves)]
        points = sorted(by_measure[measure])
        line(axes, "MODA", [value for value, _ in points], [found for _, found in points])
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xticks([value for value, _ in points], [f"{value:g}" for value, _ in points], fontsize=7)
        axes.minorticks_off()
        label(axes, weight if number >= len(grid) - len(curves) else "", measure if number % len(curves) == 0 else "")
    return figure


def training_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """What training reported after every epoch, one picture per measure.

    Args:
        curves: by measure, then by approach, one number per epoch.
    """
    figure, several = panels(width=7.2, height=2.8, columns=len(curves))
    for axes, (measure, by_approach) in zip(several, curves.items(), strict=True):
        for approach, values in by_approach.items():
            look = look_of(approach)
            axes.plot(range(1, len(values) + 1), values, look.line, color=look.colour, label=approach, linewidth=1.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        label(axes, "epoch", measure)
    legend(figure, several[0])
    return figure


def training_time(seconds: Mapping[str, Mapping[str, float]], name: str = "s per epoch") -> Figure:
    """Bars of time, by model, then by approach."""
    figure, (axes,) = panels(width=5.4, height=3.0)
    approaches = list(dict.fromkeys(approach for by_approach in seconds.values() for approach in by_approach))
    width = 0.8 / len(approaches)
    for place, approach in enumerate(approaches):
        at = [number + (place - (len(approaches) - 1) / 2) * width for number in range(len(seconds))]
        heights = [by_approach.get(approach, np.nan) for by_approach in seconds.values()]
        bars = axes.bar(at, heights, 0.9 * width, color=look_of(approach).colour, label=approach)
        axes.bar_label(bars, fmt=lambda value: "" if np.isnan(value) else f"{value:.3g}", fontsize=7, padding=1)
    axes.set_xticks(range(len(seconds)), list(seconds))
    axes.grid(visible=False, axis="x")
    label(axes, "", name)
    legend(figure, axes)
    return figure


def _ranges(axes: Axes, approach: str, by_size: Mapping[int, Sequence[float]], beside: float) -> None:
    look = look_of(approach)
    for size, values in by_size.items():
        least, low, middle, high, most = np.percentile(values, [0, 25, 50, 75, 100])
        at, first = size + beside, size == min(by_size)
        axes.plot([at, at], [least, most], color=look.colour, linewidth=0.8)
        axes.plot([at, at], [low, high], color=look.colour, linewidth=3, solid_capstyle="butt", alpha=0.6)
        axes.plot(at, middle, look.marker, color=look.colour, label=approach if first else None, markersize=4)


def _band(axes: Axes, approach: str, by_size: Mapping[int, Sequence[float]]) -> None:
    sizes = sorted(by_size)
    line(axes, approach, sizes, [float(np.mean(by_size[size])) for size in sizes], every=max(1, len(sizes) // 10))
    least, most = ([bound(by_size[size]) for size in sizes] for bound in (min, max))
    axes.fill_between(sizes, least, most, color=look_of(approach).colour, alpha=0.12, linewidth=0)
