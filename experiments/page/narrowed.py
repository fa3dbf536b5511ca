"""The part of the page with results of narrowed models, shorter trainings or smaller data, setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.evidence.files import Evidence, by_setting
from experiments.page.passages import REPLACEMENT, about, reuse_of, threshold_of, weights_of, with_sources
from experiments.page.sources import setting_name
from experiments.page.tables import accuracy, compactness, replacement

__all__ = ["narrowed"]


def narrowed(files: Sequence[Evidence], place: Path) -> str:
    """Everything that is not full size, setting by setting."""
    if not files:
        return ""
    text = (
        "## Narrowed\n\nFewer channels, fewer epochs or smaller data, for want of a GPU: what the programs and the method do,"
        " not what the paper's models reach. None of these numbers compares with the paper's.\n\n"
    )
    for (dataset, model, width, epochs), alike in by_setting(files).items():
        text += f"### {setting_name(dataset, model, width, epochs)}\n\n"
        text += "".join(part(file, place) for question, part in _PARTS.items() for file in about(alike, question))
    return text


def _trained(file: Evidence, place: Path) -> str:
    return f"#### Training (RQ1)\n\n{accuracy.of_one(file)}\n" + with_sources([file], place, "time", "curves")


def _reused(file: Evidence, place: Path) -> str:
    return f"#### Reuse (RQ2)\n\n{reuse_of(file, place)}"


def _replaced(file: Evidence, place: Path) -> str:
    own = f"{replacement.of_one(file)}\n{replacement.summary(file)}\n"
    return f"#### Replacement (RQ2)\n\n{REPLACEMENT}{own}" + with_sources([file], place)


def _compact(file: Evidence, place: Path) -> str:
    return (
        f"#### Compactness (RQ3)\n\nReductions are of MODA against MODA-, as the paper counts.\n\n{compactness.of_one(file)}\n"
        + with_sources([file], place)
    )


def _cut_at(file: Evidence, place: Path) -> str:
    return f"#### The threshold τ (RQ4)\n\n{threshold_of(file, place)}"


def _weighted(file: Evidence, place: Path) -> str:
    return f"#### Weights of the loss (RQ4)\n\n{weights_of(file, place)}"


_PARTS: dict[str, Callable[[Evidence, Path], str]] = {
    "rq1": _trained,
    "rq2-reuse": _reused,
    "rq2-replacement": _replaced,
    "rq3": _compact,
    "rq4-threshold": _cut_at,
    "rq4-weights": _weighted,
}
"""Of one narrowed setting, in the order of the page."""
