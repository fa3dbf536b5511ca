"""The demo's picture: module maps, overlaps, size against accuracy, replacements and samples, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.demo.findings import Findings, ModelFindings, SeedFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_Pixels = np.ndarray[Any, Any]

_INK, _FAINT = "#343a40", "#e9ecef"
_MODULAR, _STANDARD, _TENTH, _ALL = "#0b7285", "#e8590c", "#a5d8ff", "#1971c2"
_RIGHT, _WRONG = "#2b8a3e", "#c92a2a"
_ALONE_TO_SHARED = ("#0b4f6c", "#1c7fa0", "#63b3cd", "#b9dbe6", "#dfe5e8")
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#868e96",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def draw(findings: Findings, images: _Pixels, to: Path) -> None:
    """Draw the first seed's `findings`, with samples of the test `images` [n, height, width], into the file `to`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    one = findings.seeds[0]
    with rc_context(_STYLE):
        figure = Figure(figsize=(15, 14), dpi=120, facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.045, 0.975, "MODA on handwritten digits", fontsize=17, fontweight="bold", color=_INK)
        figure.text(0.045, 0.956, _lead(findings, one), fontsize=10.5, color=_INK)
        maps = figure.add_gridspec(2, 2, left=0.045, right=0.95, top=0.92, bottom=0.575, hspace=0.34, wspace=0.015,
                                   width_ratios=(1, 0.012))  # fmt: skip
        for row, model in enumerate((one.modular, one.standard)):
            _module_map(figure, figure.add_subplot(maps[row, 0]), figure.add_subplot(maps[row, 1]), model)
        charts = figure.add_gridspec(1, 3, left=0.045, right=0.985, top=0.50, bottom=0.215, wspace=0.2)
        _overlaps(figure, figure.add_subplot(charts[0]), one.modular)
        _size_and_accuracy(figure.add_subplot(charts[1]), one)
        _gains(figure.add_subplot(charts[2]), findings, one)
        row_of_samples = figure.add_gridspec(
            1, max(len(one.samples), 1), left=0.045, right=0.985, top=0.125, bottom=0.04
        )
        _samples(figure, row_of_samples, one, images)
        figure.text(0.045, 0.158, "Test images answered over HTTP: answer and probability", fontweight="bold",
                    fontsize=10.5)  # fmt: skip
        figure.savefig(to)


def _lead(findings: Findings, one: SeedFindings) -> str:
    return (
        f"{one.modular.architecture}, {findings.train_images:,} training images, seed {one.seed}. Test accuracy "
        f"{one.modular.accuracy.percent:.1f} % modular, {one.standard.accuracy.percent:.1f} % standard, "
        f"{one.weak.percent:.1f} % weak (n = {one.modular.accuracy.images})."
    )


def _module_map(figure: Figure, axes: Axes, bar: Axes, model: ModelFindings) -> None:
    """Classes down, units across, layer by layer; a unit is coloured where the class's module holds it."""
    from matplotlib.colors import LinearSegmentedColormap

    labels, layers = list(model.sizes), list(model.module_map)
    held = np.concatenate([np.array(model.module_map[layer], dtype=float) for layer in layers], axis=1)
    shared = np.where(held > 0, held.sum(axis=0, keepdims=True), np.nan)
    colours = LinearSegmentedColormap.from_list("alone to shared", _ALONE_TO_SHARED).with_extremes(bad="white")
    shown = axes.imshow(shared, aspect="auto", cmap=colours, vmin=1, vmax=len(labels), interpolation="nearest")
    widths = [len(model.module_map[layer][0]) for layer in layers]
    edges = np.cumsum(widths)
    for edge in edges[:-1]:
        axes.axvline(edge - 0.5, color=_INK, linewidth=0.9)
    for row in range(1, len(labels)):
        axes.axhline(row - 0.5, color="white", linewidth=1.2)
    axes.set_xticks(edges - np.array(widths) / 2 - 0.5, _layer_names(layers, widths))
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.set_ylabel("class")
    axes.set_title(
        f"The units in each class's module, layer by layer, {model.objective} model: mean module {100 * model.mean_size:.1f} % of the "
        f"parameters, mean overlap {100 * model.mean_overlap:.1f} %"
    )
    figure.colorbar(shown, cax=bar, label="classes sharing a unit", ticks=[1, len(labels)])


def _layer_names(layers: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names with their widths, on two lines where the layer is drawn narrow."""
    return [f"{layer}\n({width})" if width < sum(widths) / 12 else f"{layer} ({width})"
            for layer, width in zip(layers, widths, strict=True)]  # fmt: skip


def _overlaps(figure: Figure, axes: Axes, model: ModelFindings) -> None:
    """Shared parameters of each pair of modules; on the diagonal, the modules' own sizes."""
    labels = list(model.sizes)
    matrix = 100 * np.diag([model.sizes[label] for label in labels])
    for (first, second), share in model.overlaps.items():
        i, j = labels.index(first), labels.index(second)
        matrix[i, j] = matrix[j, i] = 100 * share
    shown = axes.imshow(matrix, cmap="YlGnBu", vmin=0, aspect="auto")
    for i, j in np.ndindex(*matrix.shape):
        colour = "white" if matrix[i, j] > 0.6 * matrix.max() else _INK
        axes.text(j, i, f"{matrix[i, j]:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.set_xlabel("class")
    axes.set_ylabel("class")
    axes.set_title("Overlap of the modular model's modules (diagonal: size)")
    figure.colorbar(shown, ax=axes, label="% of all parameters", pad=0.02)


def _size_and_accuracy(axes: Axes, one: SeedFindings) -> None:
    """Every composition of two and three classes as one point."""
    for name, model, colour in (("modular", one.modular, _MODULAR), ("standard", one.standard, _STANDARD)):
        for classes, marker in ((2, "o"), (3, "^")):
            composed = model.of_size(classes)
            sizes = [100 * each.size for each in composed]
            accuracies = _spread([each.composed.percent for each in composed])
            label = f"{name}, {len(composed)} of {classes} classes"
            axes.scatter(sizes, accuracies, s=17, marker=marker, alpha=0.5, color=colour, linewidth=0, label=label)
    axes.set_xlim(0, 100)
    axes.set_xlabel("size, % of the whole model's parameters")
    axes.set_ylabel("accuracy on the test images of its classes, %")
    axes.set_title("All compositions: size and accuracy")
    axes.grid(color=_FAINT, linewidth=0.6)
    axes.legend(loc="lower right")


def _spread(values: Sequence[float]) -> _Pixels:
    """The values, moved by up to 0.08 so that equal ones do not hide each other."""
    return np.asarray(values) + np.random.default_rng(0).uniform(-0.08, 0.08, len(values))


def _gains(axes: Axes, findings: Findings, one: SeedFindings) -> None:
    """Target gain of every class, for both ways to learn the adaptation."""
    labels, highest = list(findings.labels), 0.0
    for offset, adaptation, colour, images in (
        (-0.2, "tenth", _TENTH, one.weak_images),
        (0.2, "all", _ALL, findings.train_images),
    ):
        by_label = {each.label: each.target_gain for each in one.replaced if each.adaptation == adaptation}
        gains = [by_label[label] for label in labels]
        highest = max(highest, *gains)
        mean = sum(gains) / len(gains)
        words = f"adapted on {images:,} images: mean {mean:+.1f}"
        axes.bar(np.arange(len(labels)) + offset, gains, width=0.38, color=colour, label=words)
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.set_ylim(top=max(1.0, 1.25 * highest))
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("class replaced")
    axes.set_ylabel("gain in accuracy on the class, points")
    axes.set_title(f"Patching the weak model ({one.weak.percent:.1f} %), class by class")
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.legend(loc="upper right")


def _samples(figure: Figure, row: Any, one: SeedFindings, images: _Pixels) -> None:
    """The predicted images with their answers."""
    for column, sample in enumerate(one.samples):
        axes = figure.add_subplot(row[0, column])
        axes.imshow(images[sample.index], cmap="gray_r", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        colour = _RIGHT if sample.label == sample.truth else _WRONG
        axes.set_title(f"{sample.label}  {100 * sample.probability:.0f} %", color=colour, fontsize=9.5, loc="center")
        axes.set_xlabel(f"is {sample.truth}; {sample.model}", fontsize=7.5)
        axes.spines[:].set_visible(True)
