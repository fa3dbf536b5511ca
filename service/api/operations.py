"""Whether the service lives and is ready, and its counters."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service import __version__
from service.api.dependencies import Parts
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
async def metrics(parts: Parts) -> Response:
    """Counters for Prometheus."""
    return Response(parts.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
