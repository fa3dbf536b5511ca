"""What endpoints work with: made when the service starts, handed to them by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from moda_core.storage.registry import Registry
from service.inference.decoding import Decoder
from service.inference.engine import Engine
from service.oip.residents import Residents
from service.settings import Settings
from service.telemetry import Metrics
from worker.jobs import Jobs

__all__ = ["Parts", "ServiceParts"]


@dataclass(frozen=True)
class ServiceParts:
    """The parts of one running service."""

    settings: Settings
    registry: Registry
    jobs: Jobs
    engine: Engine
    decoder: Decoder
    metrics: Metrics
    residents: Residents


def _parts(request: Request) -> ServiceParts:
    parts = request.app.state.parts
    assert isinstance(parts, ServiceParts)
    return parts


Parts = Annotated[ServiceParts, Depends(_parts)]
