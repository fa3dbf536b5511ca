"""The part of the page that stands beside the paper: its models at full width, trained as long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments import accuracy_tables, paper, replacement_tables, reuse_tables
from experiments.evidence import PAPER_EPOCHS, Evidence
from experiments.passages import REPLACEMENT, about, reuse_of, threshold_of, with_sources
from experiments.sources import unmeasured

__all__ = ["full_size"]


def full_size(files: Sequence[Evidence], place: Path) -> str:
    """Tables 1 to 3 and figures 3 and 4, empty where nothing was measured."""
    begins = f"The paper's models at their own width, {PAPER_EPOCHS} epochs.\n\n"
    parts = (_table_1, _reuse, _table_2, _table_3, _thresholds)
    return "## Full size\n\n" + begins + "".join(part(files, place) for part in parts)


def _table_1(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq1")
    command = "python -m experiments.rq1 --dataset DATASET=DATASET.npz --model MODEL --seeds 5"
    return (
        "### RQ1: test accuracy and training time (table 1)\n\n"
        + accuracy_tables.beside_the_paper(found)
        + "\n"
        + unmeasured(accuracy_tables.unmeasured_cases(found), command)
        + with_sources(found, place, "time", "curves")
    )


def _reuse(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq2-reuse")
    text = "### RQ2: reuse (figure 3)\n\n"
    theirs = ", ".join(f"{name} {value}" for name, value in paper.REUSE.means.items())
    text += (
        f"The paper gives means for VGG16 on CIFAR-10: {theirs}; MODA's largest loss {paper.REUSE.largest_gap}, more than"
        f" 3 points in {paper.REUSE.gaps_above_3} of 1,013 sub-tasks. Mean module size {paper.MEAN_MODULE['MODA'].size}"
        f" (MwT {paper.MEAN_MODULE['MwT'].size}) and overlap {paper.MEAN_MODULE['MODA'].overlap}"
        f" (MwT {paper.MEAN_MODULE['MwT'].overlap}) are over all nine cases.\n\n"
    )
    for file in found:
        stated = (file.model, file.dataset) == ("vgg16", "cifar10")
        text += f"#### {file.model} on {file.dataset}\n\n{reuse_of(file, place, stated=stated)}"
    command = "python -m experiments.rq2 reuse --dataset DATASET=DATASET.npz --model MODEL --seeds 5"
    return text + unmeasured(reuse_tables.unmeasured_reuse(found), command)


def _table_2(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq2-replacement")
    text = f"### RQ2: replacement (table 2)\n\n{REPLACEMENT}"
    for dataset in paper.TARGETS:
        text += f"#### {dataset}\n\n{replacement_tables.beside_the_paper(found, dataset)}\n"
        text += "".join(replacement_tables.summary(file) + "\n" for file in found if file.dataset == dataset)
    command = "python -m experiments.rq2 replacement --dataset DATASET=DATASET.npz --strong MODEL --seeds 5"
    return text + unmeasured(replacement_tables.unmeasured_cases(found), command) + with_sources(found, place)


def _table_3(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq3")
    command = "python -m experiments.rq3 --dataset DATASET=DATASET.npz --model MODEL --seeds 5"
    return (
        "### RQ3: compactness (table 3)\n\nSizes and overlaps as the paper counts them.\n\n"
        + reuse_tables.compactness_beside_the_paper(found)
        + "\n"
        + unmeasured(reuse_tables.unmeasured_compactness(found), command)
        + with_sources(found, place)
    )


def _thresholds(files: Sequence[Evidence], place: Path) -> str:
    found = about(files, "rq4-threshold")
    text = "### RQ4: the threshold τ (figure 4)\n\n"
    for file in found:
        text += f"#### {file.model} on {file.dataset}\n\n{threshold_of(file, place)}"
    measured = {(file.model, file.dataset) for file in found}
    command = "python -m experiments.rq4 threshold --dataset DATASET=DATASET.npz --model MODEL"
    return text + unmeasured([case for case in paper.COMPOSITION if case not in measured], command)
