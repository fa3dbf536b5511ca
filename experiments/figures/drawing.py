"""The figures of one result file, drawn beside it in ``figures``: means over seeds, of one model each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from matplotlib.figure import Figure

from experiments.evidence.files import evidence_of
from experiments.evidence.summaries import (
    by_size,
    grouped,
    layer_overlaps,
    most_images,
    of_kind,
    share,
    threshold_points,
)
from experiments.figures import charts
from experiments.figures.style import save
from experiments.records.result_file import ResultFile, Row

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
    """Training time and curves."""
    trained = grouped(of_kind(_rows(file), "training"), lambda row: str(row["approach"]))
    if not trained:
        return
    times = {one: fmean(row["wall_s"] / row["epochs"] for row in rows) for one, rows in trained.items()}
    curves = {
        "loss": {one: _mean_curve(rows, "loss") for one, rows in trained.items()},
        "training accuracy, %": {
            one: [100 * value for value in _mean_curve(rows, "accuracy")] for one, rows in trained.items()
        },
    }
    _save(file, "time", charts.training_time({model: times}))
    _save(file, "curves", charts.training_curves(curves))


def rq2_reuse(file: ResultFile) -> None:
    """Figures 3a and 3b, and what modules share in each layer."""
    measured = _rows(file)
    rows = most_images(of_kind(measured, "reuse"))
    if rows:
        _save(file, "accuracy", charts.reuse_accuracy(by_size(rows, lambda row: 100 * share(row["accuracy"]))))
    composed = [row for row in rows if "kept_parameters" in row]
    if composed:
        parameters = by_size(composed, lambda row: 100 * row["kept_parameters"] / row["original_parameters"])
        flops = by_size(composed, lambda row: 100 * row["kept_flops"] / row["original_flops"])
        _save(file, "cost", charts.composed_cost(parameters, flops))
    layers = layer_overlaps(measured)
    percent = {one: {name: 100 * part for name, part in shares.items()} for one, shares in layers.items()}
    if percent:
        _save(file, "overlap", charts.overlap_per_layer(percent))


def rq4_threshold(file: ResultFile) -> None:
    """Figure 4."""
    found = {
        approach: [(float(point.threshold), 100 * point.accuracy, 100 * point.size) for point in points]
        for approach, points in threshold_points(_rows(file)).items()
    }
    if found:
        _save(file, "threshold", charts.threshold(found))


def rq4_weights(file: ResultFile) -> None:
    """What each of alpha, beta, gamma does while the others stand at the paper's."""
    rows = of_kind(_rows(file), "weights")
    if not rows:
        return
    default = {"alpha": 1.0, "beta": 1.0, "gamma": 0.3}
    curves = {}
    for weight, letter in _WEIGHTS.items():
        alike = [row for row in rows if all(row[one] == default[one] for one in _WEIGHTS if one != weight)]
        values = sorted({row[weight] for row in alike})
        curves[letter] = {
            name: [(value, fmean(measure(row) for row in alike if row[weight] == value)) for value in values]
            for name, measure in _MEASURES.items()
        }
    _save(file, "weights", charts.weights(curves))


def _rows(file: ResultFile) -> list[Row]:
    return evidence_of(file.path).rows()


def _mean_curve(rows: Sequence[Row], name: str) -> list[float]:
    """By epoch, over the seeds."""
    return [fmean(values) for values in zip(*(row["history"][name] for row in rows), strict=True)]


def _save(file: ResultFile, what: str, figure: Figure) -> None:
    save(figure, file.path.parent / "figures", f"{file.path.stem}-{what}")
