"""`POST /compose`, and what has been composed."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from moda_core.errors import NotFound
from moda_core.storage import manifests
from moda_core.storage.registry import Registry
from service import downloads
from service.answers import composition_answer
from service.api.dependencies import Parts, ServiceParts, WantedFormat
from service.inference.servables import Servable, composition_servable
from service.schemas import ComposeRequest, Composition, CompositionList, CompositionSummary

__all__ = ["router"]

router = APIRouter(tags=["inference"])


@router.post("/compose")
async def compose(body: ComposeRequest, parts: Parts) -> Composition:
    """Compose a model for some classes, without training, and keep it ready to predict.

    The same request always gives the same id. `model` may also be a composition's id: its classes
    are composed again.
    """
    started = time.perf_counter()
    meant = await parts.servables.find(body.model, body.classes, body.threshold)
    assert meant.recipe is not None
    answer = await _composition(parts, meant, meant.recipe)
    await run_in_threadpool(_remember, parts.registry, meant.recipe)
    return answer.model_copy(update={"compose_ms": round((time.perf_counter() - started) * 1e3, 3)})


def _remember(registry: Registry, recipe: manifests.Composition) -> None:
    """Store a recipe, unless it is stored: reading one is cheaper than another write that is synced to disk."""
    try:
        registry.composition(recipe.id)
    except NotFound:
        registry.put_composition(recipe)


def _stored(composition_id: str, parts: Parts) -> Servable:
    return composition_servable(parts.registry, composition_id)


_Stored = Annotated[Servable, Depends(_stored)]


@router.get("/compositions")
def compositions(parts: Parts) -> CompositionList:
    """Every composition that was asked for."""
    return CompositionList(compositions=[_summary(recipe) for recipe in parts.registry.compositions()])


@router.get("/compositions/{composition_id}")
async def composition(meant: _Stored, parts: Parts) -> Composition:
    """One composition, and what it keeps of its original."""
    assert meant.recipe is not None
    return await _composition(parts, meant, meant.recipe)


@router.get(
    "/compositions/{composition_id}/weights",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
)
async def weights(
    meant: _Stored, request: Request, parts: Parts, file_format: WantedFormat = "safetensors"
) -> Response:
    """The composed model as one file. As safetensors it can be uploaded to another registry, and composed again there."""
    assert meant.recipe is not None
    file = await parts.exports.file(downloads.composition_source(parts.registry, meant.recipe), file_format)
    name = f"composition-{meant.recipe.id[:12]}.{file_format}"
    return await run_in_threadpool(downloads.file_response, request, parts.registry, file, name)


async def _composition(parts: ServiceParts, meant: Servable, recipe: manifests.Composition) -> Composition:
    size = (await parts.engine.ready(meant)).size
    assert size is not None
    return composition_answer(meant, size, links=_links(recipe))


def _summary(recipe: manifests.Composition) -> CompositionSummary:
    return CompositionSummary(
        id=recipe.id,
        model=recipe.model,
        classes=list(recipe.labels),
        threshold=manifests.canonical_threshold(recipe.threshold),
        links=_links(recipe),
    )


def _links(recipe: manifests.Composition) -> dict[str, str]:
    path = f"/compositions/{recipe.id}"
    return {
        "self": path,
        "weights": f"{path}/weights",
        "model": f"/models/{recipe.model}",
        "predict": f"/predict?model={recipe.id}",
    }
