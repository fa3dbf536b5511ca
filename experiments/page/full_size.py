"""The part of the page that stands beside the paper: its models at full width, trained as long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.evidence.files import PAPER_EPOCHS, Evidence
from experiments.page.passages import REPLACEMENT, about, reuse_of, threshold_of, weights_of, with_sources
from experiments.page.tables import accuracy, compactness, replacement
from experiments.paper import section_5_2, table_2

__all__ = ["full_size"]


def full_size(files: Sequence[Evidence], place: Path) -> str:
    """What was measured of tables 1 to 3 and figures 3 and 4; nothing without results."""
    parts = (_table_1, _reuse, _table_2, _table_3, _thresholds, _weights)
    text = "".join(part(files, place) for part in parts)
    begins = f"The paper's models at their own width, on all images, {PAPER_EPOCHS} epochs.\n\n"
    return f"## Full size\n\n{begins}{text}" if text else ""


def _table_1(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq1")
    if not found:
        return ""
    return f"### RQ1: test accuracy and training time (table 1)\n\n{accuracy.beside_the_paper(found)}\n" + with_sources(
        found, place, "time", "curves"
    )


def _reuse(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq2-reuse")
    if not found:
        return ""
    text = (
        "### RQ2: reuse (figure 3)\n\n"
        f"The paper, of VGG16 on CIFAR-10: MODA's largest loss is {section_5_2.REUSE.largest_gap} points, and more than 3 in"
        f" {section_5_2.REUSE.gaps_above_3} of 1,013 sub-tasks. Over all nine cases the mean module size is"
        f" {section_5_2.MEAN_MODULE['MODA'].size} % (MwT {section_5_2.MEAN_MODULE['MwT'].size} %), the overlap"
        f" {section_5_2.MEAN_MODULE['MODA'].overlap} % (MwT {section_5_2.MEAN_MODULE['MwT'].overlap} %).\n\n"
    )
    for file in found:
        stated = (file.model, file.dataset) == ("vgg16", "cifar10")
        text += f"#### {file.model} on {file.dataset}\n\n{reuse_of(file, place, stated=stated)}"
    return text


def _table_2(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq2-replacement")
    text = f"### RQ2: replacement (table 2)\n\n{REPLACEMENT}" if found else ""
    for dataset in table_2.TARGETS:
        if cells := replacement.beside_the_paper(found, dataset):
            text += f"#### {dataset}\n\n{cells}\n"
            text += "".join(replacement.summary(file) + "\n" for file in found if file.dataset == dataset)
    return text + with_sources(found, place)


def _table_3(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq3")
    if not found:
        return ""
    return (
        "### RQ3: compactness (table 3)\n\n"
        "Sizes and overlaps as the paper counts them; reductions are of MODA against MODA-.\n\n"
        f"{compactness.beside_the_paper(found)}\n" + with_sources(found, place)
    )


def _thresholds(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq4-threshold")
    text = "### RQ4: the threshold τ (figure 4)\n\n" if found else ""
    return text + "".join(f"#### {file.model} on {file.dataset}\n\n{threshold_of(file, place)}" for file in found)


def _weights(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq4-weights")
    text = "### RQ4: the weights of the loss\n\nThe paper gives no numbers of this.\n\n" if found else ""
    return text + "".join(f"#### {file.model} on {file.dataset}\n\n{weights_of(file, place)}" for file in found)
