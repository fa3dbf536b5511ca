"""How well compositions of one model do, and what they cost: measured once, kept beside the model.

Every composed model is cut out and run, on the test images of its classes alone. A row's ``seconds`` are all that
it took, so that those of a model add up to the time of its reuse (the first has the uncut model's answers in it).
A composition that cannot be trained has a row with ``error`` in place of its measures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from experiments.models.evaluation import Evaluation
from experiments.records.conditions import invocation
from experiments.records.result_file import ResultFile, Row
from experiments.reuse.subtasks import Subtask
from experiments.setup.progress import Progress
from moda_core.errors import TrainingFailure

__all__ = ["Composer", "Reuse"]


class Composer(Protocol):
    """A model that composes, on the device where it does.

    Attributes:
        identity: what a measurement is of: ``model`` (digest), ``threshold``, and where a model has several,
            ``form``, and ``tuning`` (digest of the recipe).
    """

    identity: Row

    def whole(self) -> nn.Module:
        """The uncut network: normalised images in, logits of all classes out."""

    def composed(self, task: Subtask) -> tuple[nn.Module, Row]:
        """A network of some classes, its logits in their order, and what it keeps."""

    def modules(self) -> Row:
        """Sizes and overlaps of the modules."""


class Reuse:
    """The measurements of compositions that lie in a folder, for every question that asks.

    Args:
        place: the folder of the run.
        evaluation: on the device where composed models run.
        conditions: what is measured under; those of a program on the CPU by default.
    """

    def __init__(self, place: Path, evaluation: Evaluation, *, conditions: Row | None = None) -> None:
        self.file = ResultFile(place / "reuse.jsonl")
        self.evaluation, self.conditions = evaluation, conditions or invocation("cpu")
        self._known = {_key(row): row for row in self.file.measured()}

    def measure(self, composer: Composer, tasks: Sequence[Subtask], what: str) -> list[Row]:
        """The rows of all these sub-tasks, in their order; those that are missing are measured.

        Args:
            composer: of the run.
            tasks: positions of classes.
            what: is measured, for the progress line.
        """
        head = {**composer.identity, "images_per_class": self.evaluation.per_class}
        wanted = {task: _key({**head, "classes": list(task)}) for task in tasks}
        missing = [task for task, key in wanted.items() if key not in self._known]
        if missing:
            self.file.begin(self.conditions)
            begun = time.perf_counter()
            logits = self.evaluation.logits(composer.whole())
            with Progress(what, len(tasks), done=len(tasks) - len(missing)) as progress:
                for task in missing:
                    row = {**head, "classes": list(task), **self._measured(composer, task, logits)}
                    ended = time.perf_counter()
                    self._known[wanted[task]] = self.file.append({**row, "seconds": round(ended - begun, 4)})
                    begun = ended
                    progress.advance()
        return [self._known[wanted[task]] for task in tasks]

    def _measured(self, composer: Composer, task: Subtask, logits: Tensor) -> Row:
        try:
            network, costs = composer.composed(task)
        except TrainingFailure as error:
            return {"error": str(error)}
        accuracy = self.evaluation.correct(network, task)
        return {"accuracy": accuracy, "whole": self.evaluation.correct_within(logits, task), **costs}


def _key(row: Mapping[str, object]) -> tuple[object, ...]:
    classes = row["classes"]
    assert isinstance(classes, list)
    form = (row.get("form"), row.get("tuning"))
    return row["model"], row["threshold"], *form, row["images_per_class"], tuple(classes)
