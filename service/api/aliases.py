"""Aliases of models: names that can be moved from version to version, by compare-and-set."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Header, Response

from moda_core.errors import InvalidInput, NotFound, PreconditionFailed
from moda_core.specs import check_name
from moda_core.storage.registry import Registry
from moda_core.storage.registry import versions as stored
from service.api.dependencies import Parts
from service.schemas import Alias, AliasList, AliasRequest

__all__ = ["router"]

router = APIRouter(tags=["models"])

_ETAG = re.compile(r'(?:W/)?"([0-9]{1,18})"')


@router.get("/models/{name}/aliases")
def aliases(name: str, parts: Parts) -> AliasList:
    """Where the aliases of a model point; `latest` is computed, and not among them."""
    _check_model(parts.registry, name)
    return AliasList(aliases=[_alias(one) for one in parts.registry.aliases(name)])


@router.get("/models/{name}/aliases/{alias}")
def alias(name: str, alias: str, parts: Parts, response: Response) -> Alias:
    """Where an alias points; its `ETag` guards the next change."""
    _check_model(parts.registry, name)
    answer = _alias(parts.registry.alias(name, alias))
    response.headers["ETag"] = answer.etag
    return answer


@router.put("/models/{name}/aliases/{alias}")
def set_alias(
    *,
    name: str,
    alias: str,
    body: AliasRequest,
    parts: Parts,
    response: Response,
    if_match: Annotated[str | None, Header(description="Change it only if it has this `ETag`, or any: `*`.")] = None,
    if_none_match: Annotated[str | None, Header(description="`*`: only if it was never set.")] = None,
) -> Alias:
    """Point an alias at a version; with `If-Match` only if nobody has moved it since (else 412)."""
    target = body.digest if body.version is None else body.version
    if target is None or (body.digest is not None and body.version is not None):
        raise InvalidInput("version", body.version, "not one target", "give either version or digest")
    _check_model(parts.registry, name)
    expected = _expected(parts.registry, name, alias, if_match, if_none_match)
    answer = _alias(parts.registry.set_alias(name, alias, target, expected=expected))
    response.headers["ETag"] = answer.etag
    return answer


def _check_model(registry: Registry, name: str) -> None:
    """Refuse what is no name, before it becomes part of a path, and what no model is called."""
    registry.versions(check_name("model", name))


def _expected(registry: Registry, name: str, alias: str, if_match: str | None, if_none_match: str | None) -> int | None:
    """The number of changes that a caller has seen, None where it does not say."""
    if if_none_match is not None and if_none_match.strip() == "*":
        return 0
    if if_match is None:
        return None
    if if_match.strip() == "*":
        try:
            return registry.alias(name, alias).number
        except NotFound as error:
            raise PreconditionFailed(f"alias {name}@{alias} was never set", "leave out If-Match") from error
    seen = _ETAG.fullmatch(if_match.strip())
    if seen is None:
        raise PreconditionFailed("If-Match is no ETag of an alias", "send the one that GET answered")
    return int(seen[1])


def _alias(found: stored.Alias) -> Alias:
    return Alias(
        name=found.name, alias=found.alias, version=found.version, digest=found.digest, etag=f'"{found.number}"'
    )
