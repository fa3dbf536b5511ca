"""The repository extension: what there is, and which version a name answers by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from moda_core.errors import InvalidInput
from moda_core.storage.registry import Registry
from service.api.dependencies import Parts, ServiceParts
from service.oip.bodies import optional_json
from service.oip.residents import Find, Residents
from service.oip.schemas import RepositoryIndex, RepositoryLoad, RepositoryRow
from service.oip.targets import canonical_name, find_target, live_versions

__all__ = ["router"]

router = APIRouter(prefix="/v2/repository")


def _optional(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": False, "content": content}}


@router.post("/index", openapi_extra=_optional("RepositoryIndex"))
async def repository_index(request: Request, parts: Parts) -> list[RepositoryRow]:
    """Every version of every model, and whether it can be asked; so too what else was loaded by name."""
    asked = await optional_json(request, RepositoryIndex, parts.settings.max_body_bytes)
    rows = await run_in_threadpool(_rows, parts.registry, parts.residents)
    return [row for row in rows if row.state == "READY" or not asked.ready]


def _rows(registry: Registry, residents: Residents) -> list[RepositoryRow]:
    names = sorted({*registry.model_names(), *residents.names()})
    return [_row(residents, name, version) for name in names for version in _versions(registry, residents, name)]


def _versions(registry: Registry, residents: Residents, name: str) -> list[str]:
    """The live ones, and what answers although it was deleted, or is no name's version."""
    live, own = live_versions(registry, name), residents.version(name)
    return live if own in {"", *live} else [*live, own]


def _row(residents: Residents, name: str, version: str) -> RepositoryRow:
    reason = residents.reason(name, version)
    return RepositoryRow(name=name, version=version, state="UNAVAILABLE" if reason else "READY", reason=reason)


@router.post("/models/{name}/load", openapi_extra=_optional("RepositoryLoad"), response_class=Response)
async def load_model(name: str, request: Request, parts: Parts) -> Response:
    """Let a name answer by its present latest version, from when that is in memory until the next load.

    When that fails, it goes on answering as before.
    """
    asked = await optional_json(request, RepositoryLoad, parts.settings.max_body_bytes)
    overriding = sorted(key for key in asked.parameters if key == "config" or key.startswith("file:"))
    if overriding:
        remedy = "publish a model by POST /models, then load it"
        raise InvalidInput("parameters", overriding, "models are loaded as they are stored", remedy)
    return await _changed(request, parts, name, parts.residents.load)


@router.post("/models/{name}/unload", openapi_extra=_optional("RepositoryLoad"), response_class=Response)
async def unload_model(name: str, request: Request, parts: Parts) -> Response:
    """Let nothing answer for a name, in any version, until it is loaded again; what runs finishes."""
    await optional_json(request, RepositoryLoad, parts.settings.max_body_bytes)
    return await _changed(request, parts, name, parts.residents.unload)


async def _changed(
    request: Request, parts: ServiceParts, name: str, change: Callable[[str, Find], Awaitable[object]]
) -> Response:
    """Change what answers for a name, in all processes of the service."""
    known, siblings, residents = canonical_name(name), parts.siblings, parts.residents
    if siblings.is_asking(request.scope):
        await residents.follow(siblings.agreed(), parts.registry)
    else:
        async with siblings.following(request.scope, lambda: {known: residents.settled(known)}):
            await change(known, lambda: run_in_threadpool(find_target, parts.registry, known))
    return Response()
