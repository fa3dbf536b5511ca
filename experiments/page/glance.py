"""The beginning of the page: what was measured, and what came out, in a line each, with links to the sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from experiments.evidence.files import Evidence, by_setting
from experiments.page import beyond_relu, speed
from experiments.page.markdown import table
from experiments.page.sources import hardware_of, setting_name
from experiments.page.tables import accuracy, compactness, replacement, reuse, threshold, weights

__all__ = ["anchor", "glance"]

_FINDINGS: Mapping[str, Callable[[Evidence], str]] = {
    "rq1": accuracy.finding,
    "rq2-reuse": reuse.finding,
    "rq2-replacement": replacement.finding,
    "rq3": compactness.finding,
    "rq4-threshold": threshold.finding,
    "rq4-weights": weights.finding,
    "overhead": speed.finding,
    "beyond-relu": beyond_relu.finding,
}


def glance(files: Sequence[Evidence]) -> str:
    """What there is, setting by setting, then what came out."""
    columns = ["data set, model", "width", "epochs", "measured", "hardware"]
    settings = by_setting(files).items()
    rows = [
        [f"{dataset}, {model}", f"{width:g}", str(epochs), _questions(alike), hardware_of(alike)]
        for (dataset, model, width, epochs), alike in settings
    ]
    if not rows:
        return "## What was measured\n\nNothing yet.\n\n"
    found = "".join(_lines(file) for _, alike in settings for file in sorted(alike, key=_place))
    return f"## What was measured\n\n{table(columns, rows)}\n{found}\n"


def anchor(title: str) -> str:
    """The name by which a heading is linked, as GitHub and most others form it."""
    return "#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _questions(files: Sequence[Evidence]) -> str:
    return ", ".join(dict.fromkeys(file.question for file in files))


def _lines(file: Evidence) -> str:
    said = _FINDINGS[file.question](file)
    name = setting_name(file.dataset, file.model, file.width, file.epochs)
    return f"- [{name}]({anchor(_section(file))}): {said}.\n" if said else ""


def _section(file: Evidence) -> str:
    """The heading below which a file's tables stand."""
    if file.question == "overhead":
        return "Speed of training"
    if file.question == "beyond-relu":
        return f"{file.model} on {file.dataset}"
    return "Full size" if file.full_size else setting_name(file.dataset, file.model, file.width, file.epochs)


def _place(file: Evidence) -> int:
    return list(_FINDINGS).index(file.question)
