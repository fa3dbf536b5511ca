"""Whether the service can do its work now: the truth, asked of the parts themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from starlette.concurrency import run_in_threadpool

from moda_core.errors import ModaError
from service.api.dependencies import ServiceParts
from service.schemas import Readiness

__all__ = ["readiness"]

_OK = "ok"
_CHECK_S = 8.0


async def readiness(parts: ServiceParts) -> Readiness:
    """Registry and device decide; without Redis only jobs are refused. All three are asked at once, and not for long."""
    registry, redis, device = await asyncio.gather(
        _said(run_in_threadpool(parts.registry.check)),
        _said(run_in_threadpool(parts.jobs.check)),
        _said(parts.engine.check()),
    )
    return Readiness(
        status="ready" if registry == device == _OK else "not ready",
        registry=registry,
        redis=redis,
        device=parts.engine.device,
        device_state=device,
    )


async def _said(check: Awaitable[None]) -> str:
    """What is wrong, or ok."""
    try:
        await asyncio.wait_for(check, _CHECK_S)
    except TimeoutError:
        return f"no answer within {_CHECK_S:g} s"
    except ModaError as error:
        return str(error)
    return _OK
