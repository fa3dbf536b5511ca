"""Networks without ReLU, in tables: what epsilon does to accuracy and size, and how exact composing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from statistics import fmean

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import grouped, seeds, share, subtask
from experiments.page.markdown import count, percent, table
from experiments.page.sources import link, sources
from experiments.records.result_file import Row

__all__ = ["QUESTION", "beyond_relu", "finding"]

QUESTION = "beyond-relu"
_POINTS = 1.0
"""An epsilon is useful where compositions lose no more against the uncut model."""


@dataclass(frozen=True)
class _Point:
    """An approach at one epsilon."""

    epsilon: float
    approach: str
    compositions: list[Row]
    modules: list[Row]

    @property
    def accuracy(self) -> float:
        """Mean over compositions, like the next two."""
        return fmean(share(row["accuracy"]) for row in self.compositions)

    @property
    def whole(self) -> float:
        """Of the uncut model within the same classes."""
        return fmean(share(row["whole"]) for row in self.compositions)

    @property
    def kept(self) -> float:
        """Share of the weights."""
        return fmean(row["kept_parameters"] / row["original_parameters"] for row in self.compositions)


def beyond_relu(files: Sequence[Evidence], place: Path) -> str:
    """The section, with one table per network; nothing without results."""
    if not files:
        return ""
    text = (
        "## Beyond ReLU and convolutions\n\nGELU and attention are never exactly zero: a unit, or a whole head, counts as"
        " inactive for an image where it stays within ε everywhere. All pairs and ten triples of classes. *Reuse accuracy*"
        " and *uncut model* (asked for the best of the same classes) are means over these compositions; *n* is the number of"
        " test images of a composition's classes, from the fewest to the most. *Error* is the largest difference between"
        " the sliced and the masked model's logits in float64, in units of their spread.\n\n"
    )
    for file in files:
        text += f"### {file.model} on {file.dataset}\n\n{_trainings(file)}\n\n{_epsilons(file)}\n{_useful(file)}"
    picture = files[0].path.parent / "figures" / f"{QUESTION}-{files[0].dataset}.png"
    text += sources(files, place) + "\n"
    if picture.exists():
        text += f"[![beyond ReLU]({link(picture, place)})]({link(picture.with_suffix('.svg'), place)})\n\n"
    return text


def finding(file: Evidence) -> str:
    """What the largest useful epsilon gives, in a line."""
    useful = list(takewhile(_close, _points(file).get("MODA", [])))
    if not useful:
        return ""
    best = useful[-1]
    return (
        f"MODA's compositions stay within {_POINTS:g} point of the uncut model up to ε = {best.epsilon:g}"
        f" ({percent(best.accuracy)} % with {percent(best.kept)} % of the weights)"
    )


def _trainings(file: Evidence) -> str:
    rows = file.rows(kind="training")
    about = [
        f"{approach} {percent(fmean(share(row['accuracy']) for row in found))} %"
        f" (n = {count(found[0]['accuracy']['n'])}, {seeds(found)} seed{'s' if seeds(found) > 1 else ''})"
        for approach, found in grouped(rows, lambda row: str(row["approach"])).items()
    ]
    if not rows:
        return ""
    recipe = f"width {rows[0]['width']:g}, {rows[0]['epochs']} epochs, {count(rows[0]['parameters'])} parameters"
    return f"Test accuracy of the whole model ({recipe}): {', '.join(about)}."


def _epsilons(file: Evidence) -> str:
    columns = [
        "ε, approach",
        "reuse accuracy, %",
        "uncut model, %",
        "weights, %",
        "module size, %",
        "overlap, %",
        "error",
    ]
    found = [point for points in _points(file).values() for point in points]
    ordered = sorted(found, key=lambda point: (point.epsilon, point.approach))
    return table([*columns, "compositions", "n", "seeds"], [_line(point) for point in ordered])


def _useful(file: Evidence) -> str:
    """What the table says of ε, by the rule that it states."""
    text = ""
    for approach, points in _points(file).items():
        close = list(takewhile(_close, points))
        if not close:
            text += f"At its least ε {approach} is not within {_POINTS:g} point of its uncut model. "
            continue
        least, most = close[0], close[-1]
        text += (
            f"{approach} stays within {_POINTS:g} point of its uncut model up to ε = {most.epsilon:g}: from"
            f" {percent(least.kept)} % of the weights at {least.epsilon:g} to {percent(most.kept)} % there"
        )
        beyond = points[len(close) :]
        text += (
            f"; at {beyond[0].epsilon:g} its reuse accuracy is {percent(beyond[0].accuracy)} %. " if beyond else ". "
        )
    return f"{text.rstrip()}\n\n" if text else ""


def _points(file: Evidence) -> dict[str, list[_Point]]:
    """By approach, in the order of epsilon; an epsilon whose compositions are not all there is left out."""
    found: dict[str, list[_Point]] = {}
    compositions = grouped(file.rows(kind="reuse"), lambda row: (row["approach"], row["epsilon"]))
    modules = grouped(file.rows(kind="epsilon"), lambda row: (row["approach"], row["epsilon"]))
    for approach, epsilon in sorted(modules.keys() & compositions.keys()):
        point = _Point(epsilon, approach, compositions[approach, epsilon], modules[approach, epsilon])
        found.setdefault(approach, []).append(point)
    return found


def _close(point: _Point) -> bool:
    return 100 * (point.whole - point.accuracy) <= _POINTS


def _line(point: _Point) -> list[str]:
    sizes = (fmean(row[name] for row in point.modules) for name in ("size", "overlap"))
    images = [row["accuracy"]["n"] for row in point.compositions]
    return [
        f"{point.epsilon:g}, {point.approach}",
        *map(percent, (point.accuracy, point.whole, point.kept, *sizes)),
        f"{max(row['error'] for row in point.compositions):.1e}",
        count(len({subtask(row) for row in point.compositions})),
        f"{count(min(images))} to {count(max(images))}",
        str(seeds(point.compositions)),
    ]
