"""What is worth measuring, in order: most value for the time first.

The first data set's models under the first seed come before anything else: trained, composed,
replaced in. Then the other data sets, then further seeds of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from experiments.agenda import programs
from experiments.agenda.measurement import Measurement
from experiments.models import ways
from experiments.models.approaches import APPROACHES, MWT
from experiments.reuse.subtasks import number_of_subtasks
from experiments.setup.setting import RESULTS, Setting
from moda_core.data.digits import load_digits

__all__ = ["Agenda"]

_TUNED_TASKS = 50
"""Sub-tasks that MwT is fine-tuned for, each of which is a training of ten epochs."""
_AT_FIRST = 1013
"""Of a data set with more sub-tasks than ten classes have: these first, all of them last."""


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """All measurements of some data sets and models.

    Attributes:
        data: file by name of the data set, the most valuable first; None for the digits.
        models: in order.
        strong: models of the replacement study, for data sets of few classes.
        seeds: how many; the first of everything comes before the second of anything.
        tasks: sub-tasks to measure at the most; None for the paper's.
        execution: of training, as the programs take it; None for the fastest that was timed by then.
    """

    data: dict[str, Path | None]
    models: Sequence[str]
    strong: Sequence[str]
    width: float
    epochs: int
    seeds: int
    device: str
    runs: Path
    results: Path = RESULTS
    tasks: int | None = None
    execution: str | None = None

    def measurements(self) -> Iterator[Measurement]:
        """In order; a later one of the same program asks for more. Each is made when its turn comes."""
        if self.execution is None and self.device.startswith("cuda"):
            for name, model, way in product(list(self.data)[:1], self.models, ways.WAYS):
                yield programs.speed(self._setting(name, model, 1), way)
        for seeds, name in product(range(1, self.seeds + 1), self.data):
            yield from self._trainings(name, seeds)
            yield from self._uses(name, seeds)
        for name, model in product(self.data, self.models):
            tasks = self._tasks(name)
            if self.tasks is None and tasks > _AT_FIRST:
                yield programs.reuse(self._setting(name, model, self.seeds), self._way(model), tasks, None)

    def _trainings(self, name: str, seeds: int) -> Iterator[Measurement]:
        for approaches, model in product((tuple(APPROACHES), (MWT,)), self.models):
            yield programs.training(self._setting(name, model, seeds), self._way(model), approaches)

    def _uses(self, name: str, seeds: int) -> Iterator[Measurement]:
        settings = [self._setting(name, model, seeds) for model in self.models]
        all_tasks = self._tasks(name)
        sample = self.tasks or (_AT_FIRST if all_tasks > _AT_FIRST else None)
        tasks = sample or all_tasks
        for setting in settings:
            yield programs.reuse(setting, self._way(setting.model), tasks, sample)
            yield programs.compactness(setting, self._way(setting.model), tasks, sample)
        if all_tasks <= _AT_FIRST:
            for strong in self.strong:
                yield programs.replacement(self._setting(name, strong, seeds), self._way(strong), self._classes(name))
        for setting in settings:
            yield programs.threshold(setting, self._way(setting.model), tasks, sample)
        tuned = min(_TUNED_TASKS, self.tasks or _TUNED_TASKS)
        for setting in settings:
            yield programs.fine_tuning(setting, self._way(setting.model), tuned, self.tasks)

    def _setting(self, name: str, model: str, seeds: int) -> Setting:
        return Setting(
            name=name,
            source=self.data[name],
            model=model,
            width=self.width,
            epochs=self.epochs,
            seeds=tuple(range(seeds)),
            device=self.device,
            runs=self.runs,
            results=self.results,
        )

    def _classes(self, name: str) -> tuple[str, ...]:
        source = self.data[name]
        if source is None:
            return load_digits().classes
        with np.load(source) as archive:
            return tuple(archive["classes"].tolist())

    def _tasks(self, name: str) -> int:
        return number_of_subtasks(len(self._classes(name)))

    def _way(self, model: str) -> str:
        """How a model is trained: as asked, or the fastest way that was timed on the first data set by now."""
        if self.execution is not None:
            return self.execution
        setting = replace(self._setting(next(iter(self.data)), model, 1), epochs=ways.EPOCHS)
        return ways.fastest(setting.result_path(ways.QUESTION), self.device)
