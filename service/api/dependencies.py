"""What endpoints work with: made when the service starts, handed to them by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request

from moda_core.storage.formats import FileFormat
from moda_core.storage.registry import Registry
from service.exports import Exports
from service.inference.engine import Engine
from service.inference.servables import Servables
from service.metrics import Metrics
from service.oip.residents import Residents
from service.readiness import Checks
from service.settings import Settings
from service.siblings import Siblings
from worker.jobs import Jobs

__all__ = ["Parts", "ServiceParts", "WantedFormat", "parts_of_app"]


@dataclass(frozen=True)
class ServiceParts:
    """The parts of one running service."""

    settings: Settings
    registry: Registry
    jobs: Jobs
    engine: Engine
    servables: Servables
    metrics: Metrics
    residents: Residents
    exports: Exports
    checks: Checks
    siblings: Siblings


def parts_of_app(app: FastAPI) -> ServiceParts:
    """The parts of an application that has started."""
    parts = app.state.parts
    assert isinstance(parts, ServiceParts)
    return parts


async def _parts(request: Request) -> ServiceParts:
    return parts_of_app(request.app)


Parts = Annotated[ServiceParts, Depends(_parts)]

WantedFormat = Annotated[
    FileFormat,
    Query(
        alias="format",
        description="safetensors: MODA's own, complete. onnx and pt2: a program for other runtimes, uint8 images of the "
        "model's size in, logits out.",
    ),
]
