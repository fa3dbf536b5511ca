"""The server itself: who it is, whether it lives and is ready."""

from __future__ import annotations

from fastapi import APIRouter

from moda_core.errors import Unavailable
from service import __version__
from service.api.dependencies import Parts
from service.oip.schemas import ServerLive, ServerMetadata, ServerReady

__all__ = ["router"]

router = APIRouter(prefix="/v2")

_EXTENSIONS = ["binary_tensor_data", "classification", "model_repository"]


@router.get("")
async def server_metadata() -> ServerMetadata:
    """Name, version and the extensions of the protocol that are supported."""
    return ServerMetadata(name="moda", version=__version__, extensions=_EXTENSIONS)


@router.get("/health/live")
async def server_live() -> ServerLive:
    """The process answers."""
    return ServerLive(live=True)


@router.get("/health/ready")
async def server_ready(parts: Parts) -> ServerReady:
    """What `/readyz` says; 503 when it is not."""
    found = await parts.checks.readiness()
    if found.status != "ready":
        reasons = [reason for reason in (found.registry, found.device_state) if reason != "ok"]
        raise Unavailable("; ".join(reasons), "see /readyz")
    return ServerReady(ready=True)
