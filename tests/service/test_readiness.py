"""However often readiness is asked, and whatever hangs, each part is asked by one thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from moda_core.errors import StorageFailure, Unavailable
from service import readiness
from service.readiness import Checks


class Part:
    """A registry, or Redis: its check waits until it is let go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.going_on, self.asked, self.error = threading.Event(), 0, error

    def check(self) -> None:
        self.asked += 1
        assert self.going_on.wait(20)
        if self.error is not None:
            raise self.error


class Device:
    device = "cpu"

    async def check(self) -> None:
        """Works."""


def checks(registry: Part, redis: Part) -> Checks:
    return Checks(registry, redis, Device())  # type: ignore[arg-type]


def works() -> Part:
    part = Part()
    part.going_on.set()
    return part


def test_who_asks_while_a_check_runs_gets_its_answer():
    registry = Part()

    async def scenario() -> list[str]:
        checked = checks(registry, works())
        asking = [asyncio.ensure_future(checked.readiness()) for _ in range(5)]
        await asyncio.sleep(0.05)
        registry.going_on.set()
        return [one.status for one in await asyncio.gather(*asking)]

    assert asyncio.run(scenario()) == ["ready"] * 5
    assert registry.asked == 1


def test_a_store_that_hangs_holds_one_thread_and_is_believed_again_when_it_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readiness, "_CHECK_S", 0.05)
    registry = Part()

    async def scenario() -> list[tuple[str, str]]:
        checked = checks(registry, works())
        found = [await checked.readiness() for _ in range(4)]
        assert registry.asked == 1
        registry.going_on.set()
        await asyncio.sleep(0.05)
        found.append(await checked.readiness())
        return [(one.status, one.registry) for one in found]

    assert asyncio.run(scenario()) == [("not ready", "no answer within 0.05 s")] * 4 + [("ready", "ok")]
    assert registry.asked == 2


def test_what_is_wrong_is_said_and_redis_alone_keeps_nothing_from_being_ready():
    broken, away = Part(StorageFailure("the disk is full", "make room")), Part(Unavailable("no Redis", "start it"))
    broken.going_on.set()
    away.going_on.set()

    async def scenario(registry: Part, redis: Part) -> tuple[str, str, str]:
        found = await checks(registry, redis).readiness()
        return found.status, found.registry, found.redis

    status, registry, _ = asyncio.run(scenario(broken, works()))
    assert status == "not ready"
    assert "the disk is full" in registry
    status, registry, redis = asyncio.run(scenario(works(), away))
    assert (status, registry) == ("ready", "ok")
    assert "no Redis" in redis
