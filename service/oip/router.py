"""All of the protocol under ``/v2``."""

from __future__ import annotations

from fastapi import APIRouter

from service.oip import models, repository, server
from service.oip.schemas import InferenceError

__all__ = ["router"]

router = APIRouter(
    tags=["open inference protocol"],
    responses={"default": {"model": InferenceError, "description": "What went wrong."}},
)
for _part in (server, models, repository):
    router.include_router(_part.router)
