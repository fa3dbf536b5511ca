"""The last part of the page: the paper's numbers that nothing of ours stands beside yet, and the commands that measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.evidence.files import Evidence
from experiments.page import speed
from experiments.page.passages import about
from experiments.page.sources import to_measure, unmeasured
from experiments.page.tables import accuracy, compactness, replacement, reuse, threshold
from experiments.paper import study, table_2

__all__ = ["TUNED", "not_measured"]

TUNED = 50
"""Sub-tasks that the page's commands fine-tune MwT for: all of them take days."""

_CASE = "--dataset DATASET=DATASET.npz --model MODEL --seeds 5"


def not_measured(files: Sequence[Evidence], timed: Sequence[Evidence], benchmarks: Path) -> str:
    """Tables 1 to 3 and figures 3 and 4 as far as they are empty, each with its command.

    Args:
        files: at full size.
        timed: ways of training.
        benchmarks: the folder of the benchmark's results.
    """
    text = "".join(part(files) for part in (_table_1, _reuse, _table_2, _table_3, _thresholds, _weights))
    text += speed.unmeasured(timed, benchmarks)
    begins = "The paper's numbers at full size that nothing stands beside yet. An empty cell is filled by the command below it."
    return f"## Not measured yet\n\n{begins}\n\n{text}" if text else ""


def _table_1(files: Sequence[Evidence]) -> str:
    found = about(files, "rq1")
    command = unmeasured(accuracy.unmeasured_cases(found), f"python -m experiments.rq1 {_CASE}")
    return _passage("RQ1: test accuracy and training time (table 1)", accuracy.unmeasured(found), command)


def _reuse(files: Sequence[Evidence]) -> str:
    found = about(files, "rq2-reuse")
    program = f"python -m experiments.rq2 reuse {_CASE} --fine-tune-tasks {TUNED}"
    command = unmeasured(reuse.unmeasured_cases(found), program)
    means = reuse.unmeasured(found)
    if "MwT+ft" in means:
        command += (
            "The paper's mean of MwT+ft is over all 1,013 sub-tasks of VGG16 on CIFAR-10: only without"
            " `--fine-tune-tasks` a number stands beside it.\n\n    python -m experiments.rq2 reuse"
            " --dataset cifar10=cifar10.npz --model vgg16 --seeds 5 --device cuda\n\n"
        )
    return _passage("RQ2: reuse (figure 3)", means, command)


def _table_2(files: Sequence[Evidence]) -> str:
    found = about(files, "rq2-replacement")
    tables = [
        f"#### {dataset}\n\n{cells}" for dataset in table_2.TARGETS if (cells := replacement.unmeasured(found, dataset))
    ]
    program = "python -m experiments.rq2 replacement --dataset DATASET=DATASET.npz --strong MODEL --seeds 5"
    command = unmeasured(replacement.unmeasured_cases(found), program)
    return _passage("RQ2: replacement (table 2)", "\n".join(tables), command)


def _table_3(files: Sequence[Evidence]) -> str:
    found = about(files, "rq3")
    command = unmeasured(compactness.unmeasured_cases(found), f"python -m experiments.rq3 {_CASE}")
    return _passage("RQ3: compactness (table 3)", compactness.unmeasured(found), command)


def _thresholds(files: Sequence[Evidence]) -> str:
    lacking = threshold.unmeasured(about(files, "rq4-threshold"))
    return _passage(
        "RQ4: the threshold τ (figure 4)", "", to_measure(lacking, f"python -m experiments.rq4 threshold {_CASE}")
    )


def _weights(files: Sequence[Evidence]) -> str:
    measured = {(file.model, file.dataset) for file in about(files, "rq4-weights") if file.rows()}
    lacking = [case for case in study.CASES if case not in measured]
    return _passage(
        "RQ4: the weights of the loss", "", unmeasured(lacking, f"python -m experiments.rq4 weights {_CASE}")
    )


def _passage(title: str, cells: str, command: str) -> str:
    if not cells and not command:
        return ""
    return f"### {title}, not measured\n\n" + (f"{cells}\n" if cells else "") + command
