"""Passages of the page that full-size and narrowed results share: tables with their sources and pictures below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.evidence.files import Evidence
from experiments.page.sources import figures, sources
from experiments.page.tables import modules, reuse, threshold, weights

__all__ = ["REPLACEMENT", "about", "reuse_of", "threshold_of", "weights_of", "with_sources"]

REPLACEMENT = (
    "Accuracy after minus before, in points, as target class / the others together. The adaptation layer learns on what the"
    " weak model was trained on, from the plain splice unless it says otherwise. CNNSplitter takes its range from a tenth of"
    " the strong model's training images, held out before training.\n\n"
)
_FINE_TUNED = (
    "MwT+ft chooses its epoch on a tenth of the sub-task's training images, which the fine-tuning does not see, but which"
    " MwT's own training saw.\n\n"
)


def reuse_of(file: Evidence, place: Path, *, stated: bool = False) -> str:
    """Reuse and modules of one setting; `stated` as in `reuse_tables.of_one`."""
    tuned = _FINE_TUNED if file.rows(kind="reuse", approach="MwT+ft") else ""
    return (
        f"Test images of each class: {reuse.images_per_class(file)}.\n\n"
        f"{reuse.of_one(file, stated=stated)}\n{reuse.of_samples(file)}{tuned}"
        f"{modules.of_one(file)}{modules.of_layers(file)}{modules.mwt_measures(file)}"
        + reuse.against_mwt(file)
        + with_sources([file], place, "accuracy", "cost", "overlap")
    )


def threshold_of(file: Evidence, place: Path) -> str:
    """Figure 4 of one setting."""
    numbers, best = threshold.of_one(file), threshold.best_of(file)
    return f"{numbers}\n{best}\n" + with_sources([file], place, "threshold")


def weights_of(file: Evidence, place: Path) -> str:
    """What the weights of the loss do, in one setting."""
    return f"{weights.of_one(file)}\n" + with_sources([file], place, "weights")


def with_sources(files: Iterable[Evidence], place: Path, *names: str) -> str:
    """Sources, then pictures."""
    found = list(files)
    pictures = "".join(figures(file, place, names=names) for file in found)
    return f"{sources(found, place)}\n{pictures}" if found else ""


def about(files: Sequence[Evidence], question: str) -> list[Evidence]:
    """The files about one question."""
    return [file for file in files if file.question == question]
