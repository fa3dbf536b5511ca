"""Whether the service can do its work now: the truth, asked of the parts themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from moda_core.errors import ModaError
from moda_core.storage.registry import Registry
from service.inference.engine import Engine
from service.schemas import Readiness
from worker.jobs import Jobs

__all__ = ["Checks"]

_OK = "ok"
_CHECK_S = 8.0


class Checks:
    """Asks registry, Redis and device whether they work, all at once and not for long.

    A store that hangs holds one thread, however often it is asked after: who asks while a check runs gets its answer.
    """

    def __init__(self, registry: Registry, jobs: Jobs, engine: Engine) -> None:
        self._engine = engine
        self._registry, self._redis = _Shared(registry), _Shared(jobs)

    async def readiness(self) -> Readiness:
        """Registry and device decide; without Redis only jobs are refused."""
        registry, redis, device = await asyncio.gather(
            _said(self._registry.answer()), _said(self._redis.answer()), _said(self._engine.check())
        )
        return Readiness(
            status="ready" if registry == device == _OK else "not ready",
            registry=registry,
            redis=redis,
            device=self._engine.device,
            device_state=device,
        )


class _Part(Protocol):
    """What can be checked."""

    def check(self) -> None: ...


class _Shared:
    """A part's check in a thread that runs once at a time, for all who wait for it; for one event loop."""

    def __init__(self, part: _Part) -> None:
        self._part = part
        self._running: asyncio.Future[None] | None = None

    async def answer(self) -> None:
        """What the check raises, if it raises."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(run_in_threadpool(self._part.check))
            self._running.add_done_callback(_seen)
        await asyncio.shield(self._running)


def _seen(done: asyncio.Future[None]) -> None:
    """Mark an error as seen, should nobody wait any more."""
    if not done.cancelled():
        done.exception()


async def _said(check: Awaitable[None]) -> str:
    """What is wrong, or ok."""
    try:
        await asyncio.wait_for(check, _CHECK_S)
    except TimeoutError:
        return f"no answer within {_CHECK_S:g} s"
    except ModaError as error:
        return str(error)
    return _OK
