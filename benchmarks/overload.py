"""Ten times as many requests as one process can answer: what is accepted is answered in time, the rest is refused.

    python -m benchmarks.overload --json FILE     # a minute of it
    python -m benchmarks.overload --seconds 6

First capacity: as many clients as the queue has places, each asking again when it is answered. Then requests at
equal intervals, at ten times that rate, whatever becomes of them; a request's time runs from the moment it was due.
Meanwhile the service is asked every quarter of a second whether it lives. When the load ends, one client asks until
it is answered. The model is a whole ResNet18 on 32x32, so that the service has time left to refuse; one request is
one picture.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.conditions import Report, conditions, parser
from benchmarks.endurance.connections import Connection, request
from benchmarks.endurance.loads import OK, TOO_MANY, Tally, closed_loop, open_loop
from benchmarks.endurance.samples import Sample, sample
from benchmarks.endurance.service import Service, served
from benchmarks.serving.models import picture, trained_model
from benchmarks.serving.ourselves import chosen_form
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.admission import admit

__all__ = ["Overloaded", "Plan", "main", "overload"]

RECOVERY_S = 2.0
"""Within which a service must answer again."""

_MODEL = "resnet18"
_PREDICT = request("POST", "/predict", query={"model": _MODEL}, body=picture(32), content_type="image/png")
_ALIVE = request("GET", "/healthz")
_ALONE = 20
_SETTLED_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much more than it can take, and for how long.

    Attributes:
        seconds: of the overload.
        times: the offered rate over capacity.
        max_queue: images that the service takes on at a time.
        capacity_s: for how long capacity is measured.
    """

    seconds: float = 60.0
    times: float = 10.0
    max_queue: int = 16
    capacity_s: float = 10.0
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Overloaded:
    """What was measured.

    Attributes:
        alone_ms: the answer of a service with nothing else to do, a median.
        capacity: as measured with the queue always full.
        alive_ms: the longest that `GET /healthz` took during the overload; None when it failed once.
        recovery_s: from the last offered request until a new one was answered; None when none was.
        recovered_ms: that answer alone.
        before, after: the process before the overload and when its connections were closed again.
    """

    plan: Plan
    alone_ms: float
    capacity: Tally
    offered: Tally
    alive_ms: float | None
    recovery_s: float | None
    recovered_ms: float
    before: Sample
    after: Sample

    @property
    def queue_ms(self) -> float:
        """How long a full queue takes at the measured capacity: what an accepted request must expect."""
        return 1e3 * self.plan.max_queue / self.capacity.rate

    @property
    def held(self) -> bool:
        """Whether it did all that it should."""
        lived = self.alive_ms is not None and self.recovery_s is not None and self.recovery_s <= RECOVERY_S
        return lived and not self.offered.errors and not self.offered.without_retry_after

    @property
    def row(self) -> dict[str, Any]:
        """Of the table."""
        offered = self.offered
        return {
            "capacity /s": self.capacity.rate,
            "offered /s": offered.done / self.plan.seconds,
            "times": offered.done / self.plan.seconds / self.capacity.rate,
            "not offered": offered.unsent,
            "answered /s": offered.rate,
            "200": offered.statuses[OK],
            "429": offered.statuses[TOO_MANY],
            "other": offered.errors,
            "429 without Retry-After": offered.without_retry_after,
        }

    @property
    def times_row(self) -> dict[str, Any]:
        """Of the second table."""
        return {
            "alone p50 ms": self.alone_ms,
            "full queue at capacity ms": self.queue_ms,
            "capacity p99 ms": self.capacity.quantile_ms(99),
            "overload p50 ms": self.offered.quantile_ms(50),
            "overload p99 ms": self.offered.quantile_ms(99),
            "healthz at most ms": self.alive_ms,
            "recovery s": self.recovery_s,
            "then ms": self.recovered_ms,
            "memory MB": [self.before.resident / 1e6, self.after.resident / 1e6],
            "files": [self.before.files, self.after.files],
        }


def overload(plan: Plan) -> Overloaded:
    """Start a service, and give it more than it can take."""
    with tempfile.TemporaryDirectory(prefix="moda-overload-") as folder:
        home = Path(folder)
        file = home / "model.safetensors"
        file.write_bytes(encode(trained_model(_MODEL)))
        registry = Registry(home / "registry")
        registry.publish_version(_MODEL, admit(registry, file))
        with served(home, threads=plan.threads, settings={"MODA_MAX_QUEUE": str(plan.max_queue)}) as service:
            found = asyncio.run(_measured(service, plan))
            service.look()
        return found


async def _measured(service: Service, plan: Plan) -> Overloaded:
    alone, capacity, offered = Tally(), Tally(), Tally()
    await closed_loop(service.port, itertools.repeat(_PREDICT, 1), 1, Tally())
    await asyncio.to_thread(chosen_form, service.url, _MODEL)  # it is measured beside the first requests
    await closed_loop(service.port, itertools.repeat(_PREDICT, _ALONE), 1, alone)
    await closed_loop(service.port, _for_seconds(plan.capacity_s), plan.max_queue, capacity)
    before = sample(service.pid)
    watching = asyncio.create_task(_alive(service.port, plan.seconds))
    # The time that the last answers take is the service's, and counts for its recovery.
    load = open_loop(service.port, _PREDICT, plan.times * capacity.rate, plan.seconds, offered)
    loading = asyncio.create_task(load)
    await asyncio.sleep(plan.seconds)
    recovery_s, recovered_ms = await _recovered(service.port)
    await loading
    alive_ms = await watching
    await asyncio.sleep(_SETTLED_S)
    return Overloaded(
        plan=plan,
        alone_ms=1e3 * median(alone.seconds),
        capacity=capacity,
        offered=offered,
        alive_ms=alive_ms,
        recovery_s=recovery_s,
        recovered_ms=recovered_ms,
        before=before,
        after=sample(service.pid),
    )


def _for_seconds(seconds: float) -> itertools.takewhile[bytes]:
    ends_at = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < ends_at, itertools.repeat(_PREDICT))


async def _alive(port: int, seconds: float) -> float | None:
    """The longest that a sign of life took, asked for again and again over a connection of its own."""
    longest, ends_at = 0.0, time.perf_counter() + seconds
    try:
        connection = await Connection.to(port)
        while time.perf_counter() < ends_at:
            asked_at = time.perf_counter()
            if (await connection.ask(_ALIVE)).status != OK:
                return None
            longest = max(longest, time.perf_counter() - asked_at)
            await asyncio.sleep(0.25)
        connection.close()
    except OSError:
        return None
    return 1e3 * longest


async def _recovered(port: int, patience_s: float = 30.0) -> tuple[float | None, float]:
    """Seconds until a request is answered with 200, asking again after each refusal; and that answer's milliseconds."""
    began = time.perf_counter()
    while time.perf_counter() - began < patience_s:
        asked_at = time.perf_counter()
        with suppress(OSError):
            connection = await Connection.to(port)
            answer = await connection.ask(_PREDICT)
            connection.close()
            if answer.status == OK:
                now = time.perf_counter()
                return now - began, 1e3 * (now - asked_at)
        await asyncio.sleep(0.01)
    return None, float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status: 1 when the service did not hold."""
    options = _parser().parse_args(arguments)
    names = ("seconds", "times", "max_queue", "capacity_s", "threads")
    plan = Plan(**{name: getattr(options, name) for name in names})
    known = conditions(**vars(plan))
    found = overload(plan)
    tables = {"requests": [found.row], "times": [found.times_row]}
    report = Report("overload", known, tables, {"held": found.held})
    report.show()
    if options.json:
        report.write(options.json)
    return int(not found.held)


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.set_defaults(threads=1)
    whole = Plan()
    for name, kind in (("seconds", float), ("times", float), ("max_queue", int), ("capacity_s", float)):
        options.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(whole, name))
    return options


if __name__ == "__main__":
    sys.exit(main())
