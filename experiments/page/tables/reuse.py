"""RQ2, reuse, in tables: what composed models get right, what they hold, and what modules share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import (
    ReuseSummary,
    grouped,
    module_summaries,
    most_images,
    of_kind,
    reuse_summaries,
    seeds,
    subtask,
)
from experiments.page.markdown import NOTHING, count, number, percent, signed, table
from experiments.paper import section_5_2, study
from experiments.records.result_file import Row

__all__ = [
    "against_mwt",
    "finding",
    "images_per_class",
    "numbers_of",
    "of_one",
    "of_samples",
    "reuse_rows",
    "unmeasured",
    "unmeasured_cases",
]

_REUSE_COLUMNS = (
    "below ST, points",
    "worst, points",
    "> 3 points",
    "weights, %",
    "FLOPs, %",
    "sub-tasks",
    "n",
    "seeds",
)


@dataclass(frozen=True)
class _Stated:
    """The paper's means, to be set beside ours where we measured as many sub-tasks on all images."""

    means: Mapping[str, float]
    tasks: int

    def of(self, one: ReuseSummary, rows: Sequence[Row]) -> list[str]:
        """Its value, ours, the difference."""
        named = self.means.get(one.approach)
        alike = one.tasks == self.tasks and all(row["images_per_class"] is None for row in rows)
        difference = 100 * one.accuracy - named if named is not None and alike else None
        return [number(named), percent(one.accuracy), signed(difference)]


def reuse_rows(file: Evidence) -> list[Row]:
    """The rows of reuse, on the most images."""
    return most_images(of_kind(file.rows(), "reuse"))


def numbers_of(rows: Sequence[Row]) -> list[str]:
    """Sub-tasks, test images of the smallest and the largest of them, seeds."""
    images = sorted({row["accuracy"]["n"] for row in rows})
    range_of = NOTHING if not images else " to ".join(dict.fromkeys(count(n) for n in (images[0], images[-1])))
    return [count(len({subtask(row) for row in rows})), range_of, str(seeds(rows))]


def of_one(file: Evidence, *, stated: bool = False) -> str:
    """How composed models do; what was measured on a sample of the sub-tasks is left to `of_samples`.

    Args:
        file: of reuse.
        stated: add the means that the paper states (for VGG16 on CIFAR-10).
    """
    theirs = _Stated(section_5_2.REUSE.means, study.SUBTASKS[file.dataset]) if stated else None
    rows, sampled = reuse_rows(file), _sampled(file)
    return _table([row for row in rows if row["approach"] not in sampled], theirs)


def of_samples(file: Evidence) -> str:
    """Approaches that were measured on fewer sub-tasks than others, each with all others on the same ones."""
    rows, text = reuse_rows(file), ""
    for approach in _sampled(file):
        alike = {(row["seed"], subtask(row)) for row in rows if row["approach"] == approach}
        same = [row for row in rows if (row["seed"], subtask(row)) in alike]
        tasks = len({classes for _, classes in alike})
        text += f"On the sub-tasks ({count(tasks)}) that {approach} was measured on, each approach:\n\n{_table(same)}\n"
    return text


def against_mwt(file: Evidence) -> str:
    """What MODA's composed models hold and cost beside MwT's of the same sub-tasks, in words; none without both."""
    rows = reuse_rows(file)
    ours, theirs = (
        {(row["seed"], subtask(row)): row for row in rows if row["approach"] == approach}
        for approach in ("MODA", "MwT")
    )
    both = [(ours[task], theirs[task]) for task in ours if task in theirs]
    if not both:
        return ""
    weights, flops = (
        percent(fmean(mine[key] / its[key] for mine, its in both)) for key in ("kept_parameters", "kept_flops")
    )
    stated = "; ".join(
        f"{model} {100 - less:.2f} and {100 - section_5_2.FEWER_FLOPS_THAN_MWT[model]:.2f}"
        for model, less in section_5_2.FEWER_WEIGHTS_THAN_MWT.items()
    )
    return (
        f"Composed by MODA, a sub-task's model has {weights} % of the weights and {flops} % of the FLOPs of the one"
        f" composed by MwT (the paper, CIFAR-10: {stated}).\n\n"
    )


def images_per_class(file: Evidence) -> str:
    """How many test images of each class reuse was measured on, in words."""
    rows = reuse_rows(file)
    return "all" if not rows or rows[0]["images_per_class"] is None else f"the first {rows[0]['images_per_class']}"


def finding(file: Evidence) -> str:
    """Accuracy with sizes, in a line."""
    sampled, modules = _sampled(file), module_summaries(file.rows())
    said = []
    for one in reuse_summaries(reuse_rows(file)):
        if one.approach not in sampled:
            about = modules.get((one.approach, one.threshold or ""))
            size = "" if about is None else f" (modules of {percent(about.size)} % of the weights)"
            said.append(f"{one.approach} {percent(one.accuracy)} %{size}")
    return "reuse accuracy " + ", ".join(said) if said else ""


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets that lack MODA's or MwT's reuse, of all the paper's sub-tasks on all images."""
    return [
        (model, dataset)
        for model, dataset in study.CASES
        if {"ST", "MODA", "MwT"} - _whole(_of_case(files, model, dataset), study.SUBTASKS[dataset])
    ]


def unmeasured(files: Sequence[Evidence]) -> str:
    """The paper's means over sub-tasks that nothing of ours stands beside."""
    measured = _whole(_of_case(files, "vgg16", "cifar10"), study.SUBTASKS["cifar10"])
    rows = [
        [f"vgg16, cifar10, {name}", number(mean), NOTHING]
        for name, mean in section_5_2.REUSE.means.items()
        if name not in measured
    ]
    return table(["model, data set, approach", "paper, %", "ours, %"], rows) if rows else ""


def _of_case(files: Sequence[Evidence], model: str, dataset: str) -> Evidence | None:
    return next((file for file in files if (file.model, file.dataset) == (model, dataset)), None)


def _whole(file: Evidence | None, tasks: int) -> set[str]:
    """The approaches that were measured on as many sub-tasks, on all images."""
    rows = [] if file is None else [row for row in reuse_rows(file) if row["images_per_class"] is None]
    return {one.approach for one in reuse_summaries(rows) if one.tasks >= tasks}


def _sampled(file: Evidence) -> list[str]:
    """Approaches that were measured on fewer sub-tasks than others."""
    tasks = {
        approach: len({subtask(row) for row in rows})
        for approach, rows in grouped(reuse_rows(file), lambda row: str(row["approach"])).items()
    }
    return [approach for approach, found in tasks.items() if found < max(tasks.values())]


def _table(rows: Sequence[Row], stated: _Stated | None = None) -> str:
    columns = ["approach", *(["paper, %"] if stated else []), "reuse accuracy, %", *(["difference"] if stated else [])]
    lines = []
    for one in reuse_summaries(rows):
        own = [row for row in rows if (row["approach"], row["threshold"]) == (one.approach, one.threshold)]
        accuracy = [percent(one.accuracy)] if stated is None else stated.of(one, own)
        lines.append([one.approach, *accuracy, *_cells(one), *numbers_of(own)])
    return table([*columns, *_REUSE_COLUMNS], lines)


def _cells(one: ReuseSummary) -> list[str]:
    if one.approach == "ST" or one.lost is None:
        losses = [NOTHING] * 3
    else:
        losses = [percent(one.loss), percent(one.worst), f"{count(one.lost)} of {count(one.compared)}"]
    return [*losses, percent(one.kept), percent(one.flops)]
