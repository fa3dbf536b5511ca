"""The figures of one result file, drawn beside it in ``figures``."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from matplotlib.figure import Figure

from experiments import figures
from experiments.evaluation import share
from experiments.results import ResultFile, Row
from experiments.summaries import by_size, most_images, of_kind, reuse_summaries

__all__ = ["rq1", "rq2_reuse", "rq4_threshold", "rq4_weights"]

_WEIGHTS = {name: rf"$\{name}$" for name in ("alpha", "beta", "gamma")}
_MEASURES: dict[str, Callable[[Row], float]] = {
    "affinity loss": lambda row: float(row["losses"]["affinity"]),
    "dispersion loss": lambda row: float(row["losses"]["dispersion"]),
    "compactness loss": lambda row: float(row["losses"]["compactness"]),
    "test accuracy, %": lambda row: 100 * share(row["accuracy"]),
    "module size, %": lambda row: 100 * float(row["size"]),
}


def rq1(file: ResultFile, model: str) -> None:
    """Training time, and the curves of the first seed."""
    rows = of_kind(file.measured(), "training")
    approaches = dict.fromkeys(row["approach"] for row in rows)
    times = {one: fmean(row["wall_s"] / row["epochs"] for row in rows if row["approach"] == one) for one in approaches}
    first = {row["approach"]: row["history"] for row in reversed(rows)}
    curves = {
        "loss": {one: first[one]["loss"] for one in approaches},
        "training accuracy, %": {one: [100 * value for value in first[one]["accuracy"]] for one in approaches},
    }
    _save(file, "time", figures.training_time({model: times}))
    _save(file, "curves", figures.training_curves(curves))


def rq2_reuse(file: ResultFile) -> None:
    """Figures 3a and 3b, and what modules share in each layer."""
    rows = most_images(of_kind(file.measured(), "reuse"))
    composed = [row for row in rows if "kept_parameters" in row]
    _save(file, "accuracy", figures.reuse_accuracy(by_size(rows, lambda row: 100 * share(row["accuracy"]))))
    if not composed:
        return
    parameters = by_size(composed, lambda row: 100 * row["kept_parameters"] / row["original_parameters"])
    flops = by_size(composed, lambda row: 100 * row["kept_flops"] / row["original_flops"])
    _save(file, "cost", figures.composed_cost(parameters, flops))
    layers = {row["approach"]: row["layers_undropped"] for row in of_kind(file.measured(), "modules")}
    percent = {one: {name: 100 * part for name, part in shares.items()} for one, shares in layers.items()}
    _save(file, "overlap", figures.overlap_per_layer(percent))


def rq4_threshold(file: ResultFile) -> None:
    """Figure 4."""
    modules = of_kind(file.measured(), "modules")
    points: dict[str, list[tuple[float, float, float]]] = {}
    for one in reuse_summaries(most_images(of_kind(file.measured(), "reuse"))):
        alike = [row["size"] for row in modules if (row["approach"], row["threshold"]) == (one.approach, one.threshold)]
        points.setdefault(one.approach, []).append((float(one.threshold or 0), 100 * one.accuracy, 100 * fmean(alike)))
    _save(file, "threshold", figures.threshold(points))


def rq4_weights(file: ResultFile) -> None:
    """What each of alpha, beta, gamma does while the others stand at the paper's."""
    rows = of_kind(file.measured(), "weights")
    default = {"alpha": 1.0, "beta": 1.0, "gamma": 0.3}
    curves = {}
    for weight, letter in _WEIGHTS.items():
        alike = [row for row in rows if all(row[one] == default[one] for one in _WEIGHTS if one != weight)]
        values = sorted({row[weight] for row in alike})
        curves[letter] = {
            name: [(value, fmean(measure(row) for row in alike if row[weight] == value)) for value in values]
            for name, measure in _MEASURES.items()
        }
    _save(file, "weights", figures.weights(curves))


def _save(file: ResultFile, what: str, figure: Figure) -> None:
    figures.save(figure, file.path.parent / "figures", f"{file.path.stem}-{what}")
