"""What is worth measuring, in order: most value for the time first.

The first data set's models under the first seed come before anything else: trained, composed,
replaced in. Then the other data sets, then further seeds of all.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from pathlib import Path

import numpy as np

from experiments.models import ways
from experiments.models.approaches import APPROACHES, MWT
from experiments.models.decomposition import THRESHOLD, THRESHOLDS, exact
from experiments.records.result_file import ResultFile, Row
from experiments.replacement.cells import missing as missing_cells
from experiments.reuse.recording import COMPOSED, FINE_TUNED, MWT_COMPOSED
from experiments.reuse.subtasks import number_of_subtasks
from experiments.setup.setting import RESULTS, Setting
from moda_core.data.digits import load_digits

__all__ = ["Agenda", "Measurement"]

_TRAINED = tuple(APPROACHES)
_REUSED = ("ST", *COMPOSED, *(approach for approach in MWT_COMPOSED if approach != FINE_TUNED))
_TUNED_TASKS = 50
"""Sub-tasks that MwT is fine-tuned for, each of which is a training of ten epochs."""
_AT_FIRST = 1013
"""Of a data set with more sub-tasks than ten classes have: these first, all of them last."""


@dataclass(frozen=True)
class Measurement:
    """A program to run, and whether its results are there.

    Attributes:
        program: as after ``python -m``.
        done: reads the result files, every time anew.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    done: Callable[[], bool]

    def command(self) -> list[str]:
        """What is run here."""
        return [sys.executable, "-m", self.program, *self.arguments]

    def shown(self) -> list[str]:
        """The same as a person would type it."""
        return ["python", "-m", self.program, *self.arguments]


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
                yield self._speed(self._setting(name, model, 1), way)
        for seeds, name in product(range(1, self.seeds + 1), self.data):
            yield from self._trainings(name, seeds)
            yield from self._uses(name, seeds)
        for name, model in product(self.data, self.models):
            if self.tasks is None and self._tasks(name) > _AT_FIRST:
                yield self._reuse(self._setting(name, model, self.seeds), None)

    def _trainings(self, name: str, seeds: int) -> Iterator[Measurement]:
        settings = [self._setting(name, model, seeds) for model in self.models]
        for setting in settings:
            yield self._training(setting, _TRAINED)
        for setting in settings:
            yield self._training(setting, (MWT,))

    def _uses(self, name: str, seeds: int) -> Iterator[Measurement]:
        settings = [self._setting(name, model, seeds) for model in self.models]
        many = self._tasks(name) > _AT_FIRST
        sample = self.tasks or (_AT_FIRST if many else None)
        for setting in settings:
            yield self._reuse(setting, sample)
            yield self._compactness(setting, sample)
        if not many:
            for strong in self.strong:
                yield self._replacement(self._setting(name, strong, seeds))
        for setting in settings:
            yield self._threshold(setting, sample)
        for setting in settings:
            yield self._tuned(setting)

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

    def _speed(self, setting: Setting, way: str) -> Measurement:
        file = self._timed(setting.model)
        arguments = self._arguments(replace(setting, epochs=ways.EPOCHS), way=way)
        name = f"speed {setting.name} {setting.model}, {way or 'step by step'}"
        return Measurement(name, "experiments.trainer_speed", arguments, lambda: ways.tried(file, way, self.device))

    def _timed(self, model: str) -> Path:
        """Where the speeds of a model are, which are measured on the first data set."""
        setting = replace(self._setting(next(iter(self.data)), model, 1), epochs=ways.EPOCHS)
        return setting.result_path(ways.QUESTION)

    def _way(self, model: str) -> str:
        return ways.fastest(self._timed(model), self.device) if self.execution is None else self.execution

    def _training(self, setting: Setting, approaches: Sequence[str]) -> Measurement:
        def done() -> bool:
            file = ResultFile(setting.result_path("rq1"))
            wanted = [(approach, seed) for approach in approaches for seed in setting.seeds]
            return all(file.has(kind="training", approach=approach, seed=seed) for approach, seed in wanted)

        return self._measurement(f"train {', '.join(approaches)}:", "rq1", setting, done, approaches=approaches)

    def _reuse(self, setting: Setting, sample: int | None) -> Measurement:
        done = self._all_tasks(setting, "rq2-reuse", _REUSED, sample)
        return self._measurement("reuse", "rq2", setting, done, "reuse", approaches=_REUSED, tasks=sample)

    def _tuned(self, setting: Setting) -> Measurement:
        tasks = min(_TUNED_TASKS, self.tasks or _TUNED_TASKS)
        done = self._all_tasks(setting, "rq2-reuse", (FINE_TUNED,), tasks)
        words = ("--fine-tune-tasks", str(tasks))
        return self._measurement(
            "fine-tune", "rq2", setting, done, "reuse", *words, approaches=(FINE_TUNED,), tasks=self.tasks
        )

    def _compactness(self, setting: Setting, sample: int | None) -> Measurement:
        done = self._all_tasks(setting, "rq3", tuple(COMPOSED), sample)
        return self._measurement("compactness", "rq3", setting, done, tasks=sample)

    def _threshold(self, setting: Setting, sample: int | None) -> Measurement:
        done = self._all_tasks(setting, "rq4-threshold", ("MODA", "ST-composed"), sample, THRESHOLDS)
        return self._measurement("threshold", "rq4", setting, done, "threshold", tasks=sample)

    def _all_tasks(
        self,
        setting: Setting,
        question: str,
        approaches: Sequence[str],
        sample: int | None,
        thresholds: Sequence[Decimal] = (THRESHOLD,),
    ) -> Callable[[], bool]:
        """Whether a file has a row of every sub-task of one model, for every approach, seed and τ, or that it failed."""
        wanted = [
            (approach, seed, None if approach == "ST" else exact(threshold))
            for approach in approaches
            for seed in setting.seeds
            for threshold in thresholds
        ]

        def done() -> bool:
            rows = ResultFile(setting.result_path(question)).measured()
            models = Counter((*_about(row), row.get("spec"), row.get("model")) for row in rows if _reused(row))
            most: Counter[tuple[object, ...]] = Counter()
            for key, number in models.items():
                most[key[:3]] = max(most[key[:3]], number)
            failed = {_about(row) for row in rows if row["kind"] == "modules" and "error" in row}
            tasks = sample or self._tasks(setting.name)
            return all(most[key] >= tasks or key in failed for key in wanted)

        return done

    def _replacement(self, setting: Setting) -> Measurement:
        def done() -> bool:
            return not missing_cells(setting, self._classes(setting.name), self.epochs)

        arguments = ("replacement", *self._arguments(setting, model="--strong", epochs="--strong-epochs"))
        arguments += ("--weak-epochs", str(self.epochs))
        name = f"replacement {setting.name}, strong {setting.model}, seeds {len(setting.seeds)}"
        return Measurement(name, "experiments.rq2", arguments, done)

    def _measurement(
        self,
        what: str,
        program: str,
        setting: Setting,
        done: Callable[[], bool],
        *words: str,
        approaches: Sequence[str] = (),
        tasks: int | None = None,
    ) -> Measurement:
        arguments = (*words, *self._arguments(setting))
        if approaches:
            arguments += ("--approaches", ",".join(approaches))
        if tasks is not None:
            arguments += ("--tasks", str(tasks))
        name = f"{what} {setting.name} {setting.model}, seeds {len(setting.seeds)}"
        return Measurement(name + (f", {tasks} sub-tasks" if tasks else ""), f"experiments.{program}", arguments, done)

    def _arguments(
        self, setting: Setting, model: str = "--model", epochs: str = "--epochs", way: str | None = None
    ) -> tuple[str, ...]:
        """The options that make this setting, without those that are the default."""
        way = self._way(setting.model) if way is None else way
        dataset = setting.name if setting.source is None else f"{setting.name}={setting.source}"
        given = [("--dataset", dataset), (model, setting.model)]
        given += [("--width", f"{setting.width:g}")] if setting.width != 1 else []
        given += [(epochs, str(setting.epochs)), ("--seeds", str(len(setting.seeds))), ("--device", setting.device)]
        given += [("--execution", way)] if way else []
        given += [("--runs", str(setting.runs))]
        given += [("--results", str(setting.results))] if setting.results != RESULTS else []
        return tuple(word for pair in given for word in pair)


def _about(row: Row) -> tuple[object, ...]:
    return row["approach"], row["seed"], row["threshold"]


def _reused(row: Row) -> bool:
    """Whether a row is of a sub-task, on all test images."""
    return row["kind"] == "reuse" and row["images_per_class"] is None
