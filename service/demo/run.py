"""`moda demo` from its first process to its last: start, explore, report, stop."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from moda_core.errors import Conflict, StorageFailure, Unavailable
from service import __version__
from service.client import Client
from service.commands.terminal import note, to_people, to_programs
from service.demo.digits import Digits, digits
from service.demo.findings import Findings, SeedFindings
from service.demo.goals import measured_goals
from service.demo.picture import draw
from service.demo.report import as_markdown, for_terminal
from service.demo.steps import Recipe, Stage, one_seed
from service.ports import free_port
from service.processes import Child, Tree, last_lines, python
from service.up import wait_until_ready

__all__ = ["Plan", "run"]

_QUICK_EPOCHS = 6
_STOP_PATIENCE_S = 40.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the demo is asked to do.

    Attributes:
        home: kept afterwards; None takes a folder that is removed.
        out: the folder of the report.
        quick: a tenth of the training.
    """

    seeds: int = 1
    home: Path | None = None
    out: Path = Path("demo-report")
    quick: bool = False
    device: str = "auto"

    def recipe(self, seed: int) -> Recipe:
        """How one seed's models are trained."""
        if self.quick:
            return Recipe(seed=seed, epochs=_QUICK_EPOCHS, weak_epochs=_QUICK_EPOCHS, adaptation_epochs=2)
        return Recipe(seed=seed)


def run(plan: Plan, *, as_json: bool = False) -> Findings:
    """Run the demo, print its report, and write it as ``report.json``, ``report.md`` and ``report.png``.

    Raises:
        StorageFailure: the report cannot be written.
        Unavailable: the product could not be started, or went away.
    """
    started = time.monotonic()
    _writable(plan.out)
    images = digits()
    with _terminable(), _home(plan.home) as home, _product(home, plan.device) as url:
        findings = _explored(plan, url, images, started, silent=as_json)
    _write(findings, images, plan.out)
    if as_json:
        to_programs(_document(findings))
    else:
        to_people().print(for_terminal(findings))
        note(f"\nWritten to {plan.out / 'report.json'}, report.md and report.png")
    return findings


def _explored(plan: Plan, url: str, images: Digits, started: float, *, silent: bool) -> Findings:
    """Everything that happens while the product runs."""
    with Client(url, timeout_s=300.0) as client:
        about = _about(client, plan)
        stage = Stage(client, images, said=_say_nothing if silent else _say, bars=not silent and sys.stderr.isatty())
        stage.said("Start Redis, worker and service", time.monotonic() - started)
        with stage.step("Import digits") as watch:
            stage.finished(client.import_dataset("digits", "digits"), watch)
        _check_same_images(client, images)
        seeds = [_seed(stage, plan, seed) for seed in range(plan.seeds)]
    return Findings(
        labels=images.labels,
        train_images=images.train_images(),
        test_images=len(images.truth),
        seeds=seeds,
        about=about,
        total_s=time.monotonic() - started,
    )


def _seed(stage: Stage, plan: Plan, seed: int) -> SeedFindings:
    if plan.seeds > 1:
        stage.said(f"Seed {seed}, {seed + 1} of {plan.seeds}", None)
    return one_seed(stage, plan.recipe(seed))


def _check_same_images(client: Client, images: Digits) -> None:
    """The images that are sent must be those that the service keeps for tests, or every figure would be wrong."""
    imported = client.dataset("digits").digest
    if imported != images.digest:
        raise Conflict("the data set 'digits' of this home is another one", "give another --home")


def _about(client: Client, plan: Plan) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "command": "moda demo" + (f" --seeds {plan.seeds}" if plan.seeds > 1 else "") + " --quick" * plan.quick,
        "recipe": asdict(plan.recipe(0)),
        "machine": f"{cores} cores ({platform.machine()}), device {client.ready().device}",
        "moda": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


# The product around it


@contextmanager
def _product(home: Path, device: str) -> Iterator[str]:
    """The address of a whole product on free ports, started as `moda up` and stopped like it."""
    port = free_port()
    arguments = ["up", "--home", str(home), "--host", "127.0.0.1", "--port", str(port), "--device", device]
    log = home / "logs" / "up.log"
    # A Redis or registry of the caller's own is not the demo's to write to.
    without = dict.fromkeys(("MODA_REDIS_URL", "MODA_REGISTRY"))
    up = Child(
        "product",
        python("service.cli", *arguments),
        environment=lambda: without,
        log=log,
        patience_s=_STOP_PATIENCE_S,
    )

    def look() -> None:
        if up.exited() is not None:
            raise Unavailable(f"the product ended with status {up.exited()}", f"the end of {log}:\n{last_lines(log)}")

    with Tree([up], report=note):
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, look=look, log=log)
        yield url


@contextmanager
def _home(home: Path | None) -> Iterator[Path]:
    if home is not None:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="moda-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: through every clean-up on the way out."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# The report


def _document(findings: Findings) -> dict[str, Any]:
    return {"goals": [asdict(goal) for goal in measured_goals(findings)], **findings.to_json()}


def _write(findings: Findings, images: Digits, out: Path) -> None:
    (out / "report.json").write_text(json.dumps(_document(findings), indent=2, ensure_ascii=False) + "\n")
    (out / "report.md").write_text(as_markdown(findings))
    draw(findings, images.pixels, out / "report.png")


def _writable(out: Path) -> None:
    """Make the folder of the report now: minutes later would be late to learn that it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise StorageFailure(f"{out} cannot be written to ({error.strerror})", "give another --out") from error


def _say(step: str, seconds: float | None) -> None:
    note(step if seconds is None else f"{step:<34}{seconds:7.1f} s")


def _say_nothing(_step: str, _seconds: float | None) -> None:
    pass
