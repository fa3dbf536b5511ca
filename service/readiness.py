"""Whether the service can do its work now: the truth, asked of the parts themselves."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from moda_core.errors import ModaError
from service.api.dependencies import ServiceParts
from service.schemas import Readiness

__all__ = ["readiness"]

_OK = "ok"


async def readiness(parts: ServiceParts) -> Readiness:
    """Registry and device decide; without Redis only jobs are refused."""
    registry = await run_in_threadpool(_said, parts.registry.check)
    redis = await run_in_threadpool(_said, parts.jobs.check)
    device_state = _OK
    try:
        await parts.engine.check()
    except ModaError as error:
        device_state = str(error)
    return Readiness(
        status="ready" if registry == device_state == _OK else "not ready",
        registry=registry,
        redis=redis,
        device=parts.engine.device,
        device_state=device_state,
    )


def _said(check: Callable[[], None]) -> str:
    """What is wrong, or ok."""
    try:
        check()
    except ModaError as error:
        return str(error)
    return _OK
