"""Models and composed models: what they take and give, whether they can be asked, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from moda_core.errors import Unavailable
from moda_core.storage.registry import Registry
from service.api.asking import predicted
from service.api.dependencies import Parts, ServiceParts
from service.headers import declared_bytes
from service.inference.engine import Image, Prediction
from service.oip.bodies import unpacked_body
from service.oip.images import encoded_images, raw_images
from service.oip.outputs import check_outputs, inference_response
from service.oip.requests import HEADER_LENGTH, SentRequest, parse_request
from service.oip.schemas import InferenceResponse, ModelMetadata, ModelReady, TensorMetadata
from service.oip.targets import Target, canonical_name, composed_for, find_target, live_versions

__all__ = ["router"]

router = APIRouter(prefix="/v2/models")

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Packed by gzip or deflate if `Content-Encoding` says so.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": f"An InferenceRequest of as many bytes as `{HEADER_LENGTH}` says, then the input's "
                    "data. With a length of 0: one image file.",
                }
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "An answer; outputs in binary stand behind it."}
}


async def _sent(
    request: Request,
    parts: Parts,
    header_length: Annotated[
        str | None, Header(alias=HEADER_LENGTH, description="Bytes of the JSON that a binary body begins with.")
    ] = None,
) -> SentRequest:
    parts.engine.check_room(1, declared_bytes(request.scope))
    body = await unpacked_body(request, parts.settings.max_body_bytes)
    return await run_in_threadpool(parse_request, body, header_length)


_Sent = Annotated[SentRequest, Depends(_sent)]


@router.get("/{name}")
async def model_metadata(name: str, parts: Parts) -> ModelMetadata:
    """What a model, alias, digest or composition takes and gives, and which digest answers for it."""
    return await _metadata(parts, name)


@router.get("/{name}/versions/{version}")
async def version_metadata(name: str, version: str, parts: Parts) -> ModelMetadata:
    """The same for one version, by its number."""
    return await _metadata(parts, name, version)


@router.get("/{name}/ready")
async def model_ready(name: str, parts: Parts) -> ModelReady:
    """The model can be asked: loaded already or on demand; 404 when it is unknown or unloaded."""
    return await _ready(parts, name)


@router.get("/{name}/versions/{version}/ready")
async def version_ready(name: str, version: str, parts: Parts) -> ModelReady:
    """The same for one version, by its number."""
    return await _ready(parts, name, version)


@router.post("/{name}/infer", openapi_extra=_BODY, response_model=InferenceResponse, responses=_ANSWERS)
async def model_infer(name: str, request: Request, sent: _Sent, parts: Parts) -> Response:
    """Classify images. The answer names the digest that gave it, whatever was loaded meanwhile."""
    return await _inferred(request, parts, sent, name)


@router.post(
    "/{name}/versions/{version}/infer",
    openapi_extra=_BODY,
    response_model=InferenceResponse,
    responses=_ANSWERS,
)
async def version_infer(name: str, version: str, request: Request, sent: _Sent, parts: Parts) -> Response:
    """The same by one version, by its number."""
    return await _inferred(request, parts, sent, name, version)


async def _settled(parts: ServiceParts, name: str, version: str | None) -> Target:
    """What answers now: for a loaded name what it holds, else what the registry says."""
    held = parts.residents.held(canonical_name(name))
    if held is not None and version in {None, held.version}:
        return held
    return await run_in_threadpool(find_target, parts.registry, name, version)


async def _metadata(parts: ServiceParts, name: str, version: str | None = None) -> ModelMetadata:
    target = await _settled(parts, name, version)
    return await run_in_threadpool(_described, parts.registry, name, target)


def _described(registry: Registry, name: str, target: Target) -> ModelMetadata:
    rule, count = registry.manifest(target.meant.model).input, len(target.meant.labels)
    recipe = target.meant.recipe
    return ModelMetadata(
        name=name,
        versions=live_versions(registry, name) or [target.version],
        platform="moda_torch",
        inputs=[
            TensorMetadata(name="images", datatype="UINT8", shape=[-1, rule.channels, -1, -1]),
            TensorMetadata(name="encoded", datatype="BYTES", shape=[-1]),
        ],
        outputs=[
            TensorMetadata(name="logits", datatype="FP32", shape=[-1, count]),
            TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, count]),
            TensorMetadata(name="label", datatype="BYTES", shape=[-1]),
        ],
        parameters={
            "digest": target.meant.model,
            "version": target.version,
            **({"composition": recipe.id} if recipe else {}),
            "labels": list(target.meant.classes),
            "image_size": rule.image_size,
        },
    )


async def _ready(parts: ServiceParts, name: str, version: str | None = None) -> ModelReady:
    target = await _settled(parts, name, version)
    reason = parts.residents.reason(canonical_name(name), target.version)
    if reason:
        raise Unavailable(f"{name} could not be loaded: {reason}", "mend it, and load it again")
    return ModelReady(name=name, ready=True)


async def _inferred(
    request: Request, parts: ServiceParts, sent: SentRequest, name: str, version: str | None = None
) -> Response:
    check_outputs(sent.asked)
    target = await _settled(parts, name, version)
    wanted = sent.asked.parameters
    classes = [one.strip() for one in wanted.classes.split(",")] if isinstance(wanted.classes, str) else wanted.classes
    target = await run_in_threadpool(composed_for, parts.registry, target, classes, wanted.threshold)
    if sent.tensor.name == "encoded":
        images: Sequence[Image] = await run_in_threadpool(encoded_images, sent)
    else:
        images = await run_in_threadpool(raw_images, sent, parts.settings.max_pixels)
    timeout_s = wanted.timeout and wanted.timeout / 1e6

    async def write(found: Prediction) -> Response:
        return await run_in_threadpool(inference_response, name, target, sent.asked, found)

    return await predicted(request, parts, target.meant, images, write, timeout_s=timeout_s)
