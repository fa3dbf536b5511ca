"""Long work, watched: a progress bar on a terminal, a line now and then elsewhere, nothing for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from service.commands.terminal import note, to_people

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from service import schemas
    from service.client import Client

__all__ = ["Watcher", "describe", "follow", "watching"]

_LINES = 10
_SILENT = ("computed",)  # the worker's note to itself


class Watcher(Protocol):
    """What is told the events of a piece of work."""

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        """Take one event: its name and its data."""


@contextmanager
def watching(what: str, *, quiet: bool = False) -> Iterator[Watcher]:
    """A watcher for work called `what`, fit for where standard error goes."""
    if quiet:
        yield lambda _event, _data: None
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield _Bar(progress, progress.add_task(what, total=None, note=""))
    else:
        yield _Lines(what)


def follow(client: Client, job: schemas.Job, *, quiet: bool = False) -> schemas.Job:
    """Watch a job until it has succeeded.

    Raises:
        TrainingFailure: if it failed.
        Cancelled: if it was cancelled.
    """
    if job.waiting and not quiet:
        note(f"Job {job.id} waits: {job.waiting}.")
    try:
        with watching(f"{job.kind} {job.id[:8]}", quiet=quiet) as watch:
            return client.wait(job.id, lambda event: watch(event.event, event.data))
    except KeyboardInterrupt:
        note(f"The job goes on; moda jobs {job.id} --follow watches it again, moda cancel {job.id} ends it.")
        raise


def describe(data: dict[str, Any]) -> str:
    """An event's figures in a few words."""
    words = []
    if "accuracy" in data:
        words.append(f"accuracy {100 * data['accuracy']:.1f} %")
    if "loss" in data:
        words.append(f"loss {data['loss']:.3f}")
    if "samples_per_s" in data:
        words.append(f"{data['samples_per_s']:,.0f} images/s")
    words += [str(data[key]) for key in ("stage", "state", "reason") if data.get(key)]
    return ", ".join(words)


def _done_of(data: dict[str, Any]) -> tuple[float, float] | None:
    for done, total in (("epoch", "epochs"), ("done", "total")):
        if isinstance(data.get(done), int | float) and data.get(total):
            return data[done], data[total]
    return None


def _bar() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=to_people(stderr=True),
    )


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        done = _done_of(data)
        if done is not None:
            self._progress.update(self._task, completed=done[0], total=done[1])
        if event not in _SILENT:
            self._progress.update(self._task, note=describe(data) or event)


class _Lines:
    """At most `_LINES` lines of progress, and one for every other event."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, -1

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        done = _done_of(data)
        if done is None and event in _SILENT:
            return
        if done is None:
            note(f"{self._what}: {describe(data) or event}")
            return
        tenth = int(_LINES * done[0] / done[1])
        if tenth > self._said:
            self._said = tenth
            note(f"{self._what}: {done[0]:.0f}/{done[1]:.0f} {describe(data)}".rstrip())
