"""What each program measures of one setting: its command, and when it is done.

``way`` is how models are trained, as ``--execution`` takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial

from experiments.agenda.done import has_subtasks, has_trainings
from experiments.agenda.measurement import Measurement
from experiments.models import ways
from experiments.models.decomposition import THRESHOLD, THRESHOLDS
from experiments.replacement.cells import missing
from experiments.reuse.recording import COMPOSED, FINE_TUNED, MWT_COMPOSED
from experiments.setup.setting import RESULTS, Setting

__all__ = ["compactness", "fine_tuning", "replacement", "reuse", "speed", "threshold", "training"]

_REUSED = ("ST", *COMPOSED, *(approach for approach in MWT_COMPOSED if approach != FINE_TUNED))


def speed(setting: Setting, way: str) -> Measurement:
    """How fast a way of training is."""
    setting = replace(setting, epochs=ways.EPOCHS)
    file = setting.result_path(ways.QUESTION)
    name = f"speed {setting.name} {setting.model}, {way or 'step by step'}"
    done = partial(ways.tried, file, way, setting.device)
    return Measurement(name, "experiments.trainer_speed", _options(setting, way), done)


def training(setting: Setting, way: str, approaches: Sequence[str]) -> Measurement:
    """RQ1 of some approaches."""
    name = f"train {', '.join(approaches)}: {_about(setting)}"
    arguments = (*_options(setting, way), *_listed(approaches))
    return Measurement(name, "experiments.rq1", arguments, partial(has_trainings, setting, approaches))


def reuse(setting: Setting, way: str, tasks: int, sample: int | None) -> Measurement:
    """RQ2 without fine-tuning; of `tasks` sub-tasks, which are all of them or a `sample`."""
    arguments = ("reuse", *_options(setting, way), *_listed(_REUSED), *_sampled(sample))
    done = _composed(setting, "rq2-reuse", _REUSED, tasks)
    return Measurement(f"reuse {_about(setting, sample)}", "experiments.rq2", arguments, done)


def fine_tuning(setting: Setting, way: str, tasks: int, sample: int | None) -> Measurement:
    """RQ2 of MwT fine-tuned for `tasks` sub-tasks out of all, or out of a `sample`."""
    arguments = ("reuse", "--fine-tune-tasks", str(tasks), *_options(setting, way))
    arguments += (*_listed((FINE_TUNED,)), *_sampled(sample))
    done = _composed(setting, "rq2-reuse", (FINE_TUNED,), tasks)
    return Measurement(f"fine-tune {_about(setting, sample)}", "experiments.rq2", arguments, done)


def compactness(setting: Setting, way: str, tasks: int, sample: int | None) -> Measurement:
    """RQ3, of sub-tasks as in `reuse`."""
    arguments = (*_options(setting, way), *_sampled(sample))
    done = _composed(setting, "rq3", tuple(COMPOSED), tasks)
    return Measurement(f"compactness {_about(setting, sample)}", "experiments.rq3", arguments, done)


def threshold(setting: Setting, way: str, tasks: int, sample: int | None) -> Measurement:
    """RQ4, the threshold, of sub-tasks as in `reuse`."""
    arguments = ("threshold", *_options(setting, way), *_sampled(sample))
    done = _composed(setting, "rq4-threshold", ("MODA", "ST-composed"), tasks, THRESHOLDS)
    return Measurement(f"threshold {_about(setting, sample)}", "experiments.rq4", arguments, done)


def replacement(setting: Setting, way: str, classes: Sequence[str]) -> Measurement:
    """RQ2, replacement by modules of the setting's model; weak models are trained as long as it."""
    arguments = ("replacement", *_options(setting, way, model="--strong", epochs="--strong-epochs"))
    arguments += ("--weak-epochs", str(setting.epochs))
    name = f"replacement {setting.name}, strong {setting.model}, seeds {len(setting.seeds)}"
    return Measurement(name, "experiments.rq2", arguments, lambda: not missing(setting, classes, setting.epochs))


def _composed(
    setting: Setting,
    question: str,
    approaches: Sequence[str],
    tasks: int,
    thresholds: Sequence[Decimal] = (THRESHOLD,),
) -> partial[bool]:
    return partial(has_subtasks, setting, question, approaches, tasks, thresholds)


def _about(setting: Setting, sample: int | None = None) -> str:
    sampled = "" if sample is None else f", {sample} sub-tasks"
    return f"{setting.name} {setting.model}, seeds {len(setting.seeds)}{sampled}"


def _options(setting: Setting, way: str, model: str = "--model", epochs: str = "--epochs") -> tuple[str, ...]:
    """The options that make a setting, without those that are the default."""
    dataset = setting.name if setting.source is None else f"{setting.name}={setting.source}"
    given = [("--dataset", dataset), (model, setting.model)]
    given += [("--width", f"{setting.width:g}")] if setting.width != 1 else []
    given += [(epochs, str(setting.epochs)), ("--seeds", str(len(setting.seeds))), ("--device", setting.device)]
    given += [("--execution", way)] if way else []
    given += [("--runs", str(setting.runs))]
    given += [("--results", str(setting.results))] if setting.results != RESULTS else []
    return tuple(word for pair in given for word in pair)


def _listed(approaches: Sequence[str]) -> tuple[str, str]:
    return "--approaches", ",".join(approaches)


def _sampled(sample: int | None) -> tuple[str, ...]:
    return () if sample is None else ("--tasks", str(sample))
