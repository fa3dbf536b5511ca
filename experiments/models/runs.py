"""Trained models on the disk, one folder per training spec: trained once, resumed if stopped, found again.

    <folder>/<spec digest>/000012.safetensors   the last checkpoint while training goes on
    <folder>/<spec digest>/model.safetensors    the trained model, an artifact file like any other
    <folder>/<spec digest>/run.json             spec, epoch reports, processor time, conditions

What is counted and measured of a model is kept beside it: ``counts.safetensors``, ``reuse.jsonl``.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.models.checkpoints import CheckpointFolder
from experiments.models.training import How, Reports
from experiments.records.conditions import conditions
from moda_core.errors import Conflict
from moda_core.files import file_digest, parse_json, storing, write_atomically
from moda_core.specs import Spec

__all__ = ["Finished", "finished"]


@dataclass(frozen=True)
class Finished:
    """A finished training run.

    Attributes:
        place: its folder, where what is measured of it is kept too.
        facts: as in ``run.json``: ``spec``, ``history`` (epoch reports), ``cpu_s`` (processor time of
            all its epochs, which a busy machine does not stretch), ``conditions``.
    """

    place: Path
    facts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Of the stored model: what says that two measurements are of the same one."""
        return file_digest(self.place / "model.safetensors")[:16]

    @property
    def spec_digest(self) -> str:
        """Of the spec, as rows of results name it."""
        return self.place.name[:16]

    @property
    def wall_s(self) -> float:
        """The time that its epochs took, without what was before, between and after them."""
        return float(sum(report["seconds"] for report in self.facts["history"]))

    @property
    def images_per_s(self) -> float:
        """Over all its epochs."""
        images = sum(report["samples_per_s"] * report["seconds"] for report in self.facts["history"])
        return float(images / self.wall_s)


def finished(
    folder: Path, spec: Spec, work: Callable[[CheckpointFolder], tuple[Reports, bytes]], how: How
) -> tuple[Path, dict[str, Any]]:
    """The folder and the facts of a run.

    Args:
        folder: of all runs.
        spec: whose digest names the run's own folder.
        work: trains, if it was not done before; returns the reports of all epochs and the model's file.
        how: for the record.

    Raises:
        Conflict: while another program works on the same run.
    """
    place = folder / spec.digest()
    if not _is_finished(place, how):
        with ExitStack() as held:
            how.ranks.first(lambda: held.enter_context(_alone(place)))
            if not _is_finished(place, how):  # by another program, before this one held the folder
                _finish(place, spec, work, how)
    return place, parse_json((place / "run.json").read_bytes())


def _is_finished(place: Path, how: How) -> bool:
    return how.ranks.agreed((place / "run.json").exists())


def _finish(place: Path, spec: Spec, work: Callable[[CheckpointFolder], tuple[Reports, bytes]], how: How) -> None:
    checkpoints = CheckpointFolder(place)
    history, model = work(checkpoints)
    facts = {
        "spec": spec.to_json(),
        "history": [report.to_json() for report in history],
        "cpu_s": checkpoints.cpu_s,
        "conditions": _conditions(how),
    }
    how.ranks.first(partial(_store, checkpoints, model, facts))


def _conditions(how: How) -> dict[str, Any]:
    execution = asdict(how.execution)
    del execution["seconds_between_checkpoints"]  # which changes no number
    return conditions(how.device) | {"processes": how.ranks.world, "execution": execution}


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a folder; it is let go when the process ends, however it ends."""
    with storing(place):
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDONLY)
    try:
        _lock(descriptor, place)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, place: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another program is training {place.name[:12]}", "wait for it, or stop it") from error


def _store(checkpoints: CheckpointFolder, model: bytes, facts: dict[str, Any]) -> None:
    """The model, then the facts that say it is there, then the checkpoints away."""
    write_atomically(checkpoints.folder / "model.safetensors", model)
    write_atomically(checkpoints.folder / "run.json", (json.dumps(facts, indent=1) + "\n").encode())
    checkpoints.clear()
