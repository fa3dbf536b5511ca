"""The most valuable measurement that is missing, then the next, until the time is up.

    python -m experiments.gpu --minutes 25 --data cifar10=cifar10.npz --data cifar100=cifar100.npz

Each measurement is a program of its own, run by the very command that ``--list`` shows and that its
result rows carry, so a crash ends one measurement and not the others. Every program drops what it
has not finished when it is stopped, at most an epoch or one group of rows, and goes on from there
when it is called again: this one may be stopped at any moment too, by whatever signal.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from experiments.agenda.agenda import Agenda
from experiments.agenda.measurement import Measurement
from experiments.setup.datasets import named
from experiments.setup.options import add_surroundings, check_positive, execution_of, surroundings_of
from experiments.setup.program import program_parser
from experiments.setup.program import run as run_program
from experiments.setup.progress import duration
from moda_core.architectures.catalogue import complete
from moda_core.data.npz import check_npz
from moda_core.errors import InvalidInput

__all__ = ["Outcome", "main", "run"]

Outcome = dict[str, list[str]]
"""Names of measurements: ``done`` before, ``measured`` now, ``failed``, ``stopped`` for want of time, ``left``."""

_TO_END_S = 3.0
"""Before the limit: a program that is stopped writes nothing, so this is for the processes to go."""
_LEAST_S = 10.0
"""A program that has less than this would only load its data."""


def run(
    measurements: Iterable[Measurement],
    deadline: float,
    *,
    locked: IO[str],
    clock: Callable[[], float] = time.monotonic,
    least_s: float = _LEAST_S,
) -> Outcome:
    """Run what is not done, in order, until `deadline` on the `clock`.

    A measurement that fails is left out, and the next one has its turn.
    """
    outcome: Outcome = {"done": [], "measured": [], "failed": [], "stopped": [], "left": []}
    for measurement in measurements:
        if measurement.done():
            outcome["done"].append(measurement.name)
        elif deadline - clock() < least_s:
            outcome["left"].append(measurement.name)
        else:
            outcome[_run_one(measurement, deadline, locked, clock)].append(measurement.name)
    return outcome


def _run_one(measurement: Measurement, deadline: float, locked: IO[str], clock: Callable[[], float]) -> str:
    begun = clock()
    print(f"{measurement.name}\n  {shlex.join(measurement.shown())}", flush=True)
    with _started(measurement, locked) as process:
        try:
            code = process.wait(max(0.0, deadline - clock()))
        except subprocess.TimeoutExpired:
            print(f"  stopped after {duration(clock() - begun)}: the time is up", flush=True)
            return "stopped"
    if code == 0 and measurement.done():
        print(f"  done, {duration(clock() - begun)}", flush=True)
        return "measured"
    print(f"  failed with exit status {code}" if code else "  ended without its results", flush=True)
    return "failed"


@contextmanager
def _started(measurement: Measurement, locked: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A running program that does not outlive the block; it inherits the lock, should it outlive us."""
    process = subprocess.Popen(measurement.command(), pass_fds=[locked.fileno()])
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_TO_END_S / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _alone(runs: Path) -> Iterator[IO[str]]:
    """The lock of a folder of runs, so that no two measurements train into it at once."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / "gpu.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another measurement is running in {runs}: wait for it, or give another --runs")
        os.set_inheritable(lock.fileno(), True)
        yield lock


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or list; 1 if a measurement failed, else 0."""
    signal.signal(signal.SIGTERM, _leave)
    begun = time.monotonic()
    options = _parser().parse_args(arguments)
    measurements = _agenda(options).measurements()
    if options.list:
        for measurement in measurements:
            print(f"{'done' if measurement.done() else 'open'}  {measurement.name}")
            print(f"      {shlex.join(measurement.shown())}")
        return 0
    with _alone(options.runs) as lock:
        outcome = run(measurements, begun + 60 * options.minutes - _TO_END_S, locked=lock)
    for what, names in outcome.items():
        print(f"{len(names):4} {what}" + (f": {', '.join(names)}" if what in {"failed", "stopped"} and names else ""))
    return 1 if outcome["failed"] else 0


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _agenda(options: argparse.Namespace) -> Agenda:
    """What is asked for; all that could not be measured is refused before anything is."""
    check_positive(options, "epochs", "tasks")
    if not options.minutes > 0:
        raise InvalidInput("--minutes", options.minutes, "out of range", "give a number above 0")
    execution_of(options.execution or "")
    for model in (*options.models, *options.strong):
        complete(model, classes=2, channels=3, width=options.width)
    data = dict(map(named, options.data))
    for source in data.values():
        if source is not None:
            check_npz(source)
    place = surroundings_of(options)
    return Agenda(
        data=data,
        models=options.models,
        strong=options.strong,
        width=options.width,
        epochs=options.epochs,
        tasks=options.tasks,
        execution=options.execution,
        **place | {"seeds": options.seeds},
    )


def _parser() -> argparse.ArgumentParser:
    parser = program_parser("python -m experiments.gpu", __doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=25.0, metavar="N", help="to spend at the most (default: 25)")
    add("--data", action="append", required=True, metavar="NAME=PATH", help="an .npz file; once per data set, in order")
    add("--models", nargs="*", default=["resnet18", "vgg16", "mobilenet"], metavar="NAME", help="in order")
    add("--strong", nargs="*", default=["vgg16", "resnet18"], metavar="NAME", help="of the replacement")
    add("--width", type=float, default=1.0, metavar="W", help="multiplier of the models' channels (default: 1)")
    add("--epochs", type=int, default=200, metavar="N", help="of training (default: 200)")
    add("--tasks", type=int, default=None, metavar="N", help="sub-tasks of a model at the most (default: the paper's)")
    add("--execution", default=None, metavar="LIST", help="of training, as for experiments.rq1 (default: the fastest)")
    add_surroundings(parser, seeds=5)
    add("--list", action="store_true", help="show the measurements in order, with their commands, and end")
    return parser


if __name__ == "__main__":
    run_program(lambda: sys.exit(main()))
