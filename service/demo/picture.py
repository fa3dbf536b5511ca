"""The demo's picture: module map, overlaps, size against accuracy, replacements and samples, on one sheet."""

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

_MODULAR, _STANDARD, _TENTH, _ALL = "#0b7285", "#e8590c", "#74c0fc", "#1971c2"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#868e96",
    "legend.frameon": False,
}


def draw(findings: Findings, images: np.ndarray[Any, Any], to: Path) -> None:
    """Draw the first seed's `findings`, with samples of the test `images` [n, height, width], into the file `to`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    one = findings.seeds[0]
    with rc_context(_STYLE):
        figure = Figure(figsize=(15, 13.5), dpi=130, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(4, 12, height_ratios=[1.15, 1.15, 1.25, 0.85], hspace=0.06)
        _module_map(figure.add_subplot(grid[0, :]), one.modular, "modular")
        _module_map(figure.add_subplot(grid[1, :]), one.standard, "standard")
        _overlaps(figure, figure.add_subplot(grid[2, :4]), one.modular)
        _size_and_accuracy(figure.add_subplot(grid[2, 4:8]), one)
        _gains(figure.add_subplot(grid[2, 8:]), findings, one)
        _samples(figure, grid[3, :], one, images)
        figure.suptitle(_headline(findings, one), fontsize=13, fontweight="bold", x=0.01, ha="left")
        figure.savefig(to)


def _headline(findings: Findings, one: SeedFindings) -> str:
    return (
        f"MODA on handwritten digits: {one.modular.architecture}, {findings.train_images:,} training images, "
        f"seed {one.seed}; test accuracy {one.modular.accuracy.percent:.1f} % modular, "
        f"{one.standard.accuracy.percent:.1f} % standard (n = {one.modular.accuracy.images})"
    )


def _module_map(axes: Axes, model: ModelFindings, kind: str) -> None:
    """Classes down, units across, layer by layer; a unit is coloured where the class's module holds it."""
    labels, layers = list(model.sizes), list(model.module_map)
    held = np.concatenate([np.array(model.module_map[layer], dtype=float) for layer in layers], axis=1)
    shared = held * held.sum(axis=0, keepdims=True)
    axes.imshow(np.where(held > 0, shared, np.nan), aspect="auto", cmap=_by_sharing(), vmin=1, interpolation="nearest",
                vmax=len(labels))  # fmt: skip
    edges = np.cumsum([len(model.module_map[layer][0]) for layer in layers])
    for edge in edges[:-1]:
        axes.axvline(edge - 0.5, color="#343a40", linewidth=0.8)
    centres = [edge - len(model.module_map[layer][0]) / 2 for edge, layer in zip(edges, layers, strict=True)]
    axes.set_xticks(centres, [f"{layer}\n{len(model.module_map[layer][0])} units" for layer in layers])
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.set_ylabel("class")
    axes.set_title(
        f"Modules of the {kind} model: the units that each class's module holds, dark where few classes share them "
        f"(mean module {100 * model.mean_size:.1f} % of the parameters)"
    )


def _by_sharing() -> Any:
    from matplotlib import colormaps

    colours = colormaps["viridis"].copy()
    colours.set_bad("#f8f9fa")
    return colours


def _overlaps(figure: Figure, axes: Axes, model: ModelFindings) -> None:
    """Shared parameters of each pair of modules; on the diagonal, the modules' own sizes."""
    labels = list(model.sizes)
    matrix = np.diag([model.sizes[label] for label in labels])
    for (a, b), share in model.overlaps.items():
        i, j = labels.index(a), labels.index(b)
        matrix[i, j] = matrix[j, i] = share
    shown = axes.imshow(100 * matrix, cmap="YlGnBu", vmin=0)
    middle = 50 * matrix.max()
    for i, j in np.ndindex(*matrix.shape):
        colour = "white" if 100 * matrix[i, j] > middle else "#212529"
        axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.set_xlabel("class")
    axes.set_ylabel("class")
    axes.set_title("Overlap of modules (diagonal: size)")
    figure.colorbar(shown, ax=axes, label="% of the whole model's parameters", shrink=0.85)


def _size_and_accuracy(axes: Axes, one: SeedFindings) -> None:
    """Every composition of two and three classes as one point."""
    for name, model, colour in (("modular", one.modular, _MODULAR), ("standard", one.standard, _STANDARD)):
        for classes, marker in ((2, "o"), (3, "^")):
            composed = model.of_size(classes)
            x = [100 * each.size for each in composed]
            y = _spread([each.composed.percent for each in composed])
            label = f"{name}, {len(composed)} of {classes} classes"
            axes.scatter(x, y, s=16, marker=marker, alpha=0.55, color=colour, linewidth=0, label=label)
    axes.set_xlim(left=0)
    axes.set_xlabel("size, % of the whole model's parameters")
    axes.set_ylabel("accuracy on its classes, %")
    axes.set_title("Compositions: size and accuracy")
    axes.grid(color="#e9ecef", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", fontsize=7.5)


def _spread(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """The values, moved by up to 0.1 so that equal ones do not hide each other."""
    return np.asarray(values) + np.random.default_rng(0).uniform(-0.1, 0.1, len(values))


def _gains(axes: Axes, findings: Findings, one: SeedFindings) -> None:
    """Target gain of every class, for both ways to learn the adaptation."""
    labels = list(findings.labels)
    for offset, adaptation, colour, words in (
        (-0.2, "tenth", _TENTH, f"adapted on {one.weak_images} images"),
        (0.2, "all", _ALL, f"adapted on {findings.train_images:,} images"),
    ):
        gains = {each.label: each.target_gain for each in one.replaced if each.adaptation == adaptation}
        positions = np.arange(len(labels)) + offset
        axes.bar(positions, [gains[label] for label in labels], width=0.38, color=colour, label=words)
    axes.axhline(0, color="#343a40", linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("class replaced")
    axes.set_ylabel("gain on the class, points")
    axes.set_title("Patching the weak model, class by class")
    axes.legend(fontsize=7.5)


def _samples(figure: Figure, place: Any, one: SeedFindings, images: np.ndarray[Any, Any]) -> None:
    """The predicted images with their answers."""
    row = place.subgridspec(1, max(len(one.samples), 1))
    for column, sample in enumerate(one.samples):
        axes = figure.add_subplot(row[0, column])
        axes.imshow(images[sample.index], cmap="gray_r", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        right = sample.label == sample.truth
        axes.set_title(
            f"{sample.label}  {100 * sample.probability:.0f} %",
            color="#2b8a3e" if right else "#c92a2a",
            fontsize=9.5,
            loc="center",
        )
        axes.set_xlabel(f"is {sample.truth}\n{sample.model}", fontsize=7.5)
        for side in axes.spines.values():
            side.set_visible(True)
