"""Whether the service lives and is ready, and its counters."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service import __version__
from service.api.dependencies import Parts
from service.metrics import side_by_side
from service.schemas import Health, Readiness

__all__ = ["router"]

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(version=__version__)


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready."}})
async def readyz(parts: Parts, response: Response) -> Readiness:
    """Registry and device can be used; whether jobs can be submitted stands beside it."""
    found = await parts.checks.readiness()
    response.status_code = 200 if found.status == "ready" else 503
    return found


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."}},
)
async def metrics(request: Request, parts: Parts) -> Response:
    """Counters for Prometheus; of a service of several processes, all of them, with the label `process`."""
    shown, siblings = parts.metrics.exposition(), parts.siblings
    if siblings.others and not siblings.is_asking(request.scope):
        everybodys = {siblings.number: shown} | await siblings.shown("/metrics")
        shown = await run_in_threadpool(side_by_side, everybodys)
    return Response(shown, media_type="text/plain; version=0.0.4; charset=utf-8")
