"""`POST /predict`: images in three ways, probabilities in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from moda_core.errors import InvalidInput, UnsupportedType
from service.answers import prediction_answer
from service.api.dependencies import Parts
from service.inference.decoding import EncodedImage, from_base64
from service.inference.servables import servable
from service.schemas import PredictionList, PredictRequest

__all__ = ["router"]

router = APIRouter(tags=["inference"])

_MAX_IMAGES = 1024
_IMAGE = {"type": "string", "format": "binary"}
_LABELS = {"type": "array", "items": {"type": "string"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _IMAGE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model", "image"],
                    "properties": {
                        "model": {"type": "string", "description": "A model reference or a composition's id."},
                        "classes": _LABELS | {"description": "Compose the model for these classes first."},
                        "threshold": {"type": "string", "description": "τ of that composition."},
                        "image": {"type": "array", "items": _IMAGE, "description": "One part per image."},
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
        },
    }
}


@dataclass(frozen=True)
class _Asked:
    """A request of any form."""

    model: str
    images: Sequence[EncodedImage]
    classes: Sequence[str] | None = None
    threshold: str | int | float | None = None


@router.post("/predict", openapi_extra=_BODY)
async def predict(
    request: Request,
    parts: Parts,
    model: Annotated[
        str | None, Query(max_length=200, description="With an `image/*` body: a model reference or composition id.")
    ] = None,
) -> PredictionList:
    """Classify one or more images.

    `model` is a reference or a composition's id; with `classes` the model is composed for them
    first. Probabilities stand in the order of `classes` in the answer, which is that of the request.
    """
    asked = await _asked(request, model)
    meant = await run_in_threadpool(servable, parts.registry, asked.model, asked.classes, asked.threshold)
    images = await parts.decoder.decode(asked.images)
    predicted = await parts.engine.predict(meant, images)
    return prediction_answer(meant, predicted.labels, predicted.probabilities)


async def _asked(request: Request, model: str | None) -> _Asked:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("image/"):
        return _Asked(_named(model), [EncodedImage("image", await request.body())])
    if media_type == "multipart/form-data":
        return await _from_form(request)
    if media_type == "application/json":
        # 60 MiB of it take half a second to read: not on the event loop.
        return await run_in_threadpool(_from_json, await request.body())
    remedy = "send image/*, multipart/form-data or application/json"
    raise UnsupportedType("Content-Type", media_type, "not a type that can be predicted", remedy)


def _named(model: str | None) -> str:
    if not model:
        raise InvalidInput("model", model, "no model named", "name one, such as ?model=digits-cnn")
    return model


def _from_json(body: bytes) -> _Asked:
    try:
        asked = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        located = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(located) from error
    images = [from_base64(f"instances.{index}.b64", one.b64) for index, one in enumerate(asked.instances)]
    return _Asked(asked.model, images, asked.classes, asked.threshold)


async def _from_form(request: Request) -> _Asked:
    try:
        form = await request.form(max_files=_MAX_IMAGES, max_fields=_MAX_IMAGES)
    except HTTPException as error:
        remedy = f"send multipart/form-data with at most {_MAX_IMAGES} images and as many other parts"
        raise InvalidInput("body", None, str(error.detail).rstrip("."), remedy) from error
    try:
        return await _from_parts(form)
    finally:
        await form.close()


async def _from_parts(form: FormData) -> _Asked:
    files = [part for part in form.getlist("image") if isinstance(part, UploadFile)]
    if not files:
        raise InvalidInput("image", None, "no image file", "send one part named image per image, with a file name")
    images = [EncodedImage(f"image[{index}]", await part.read()) for index, part in enumerate(files)]
    text = {key: value for key, value in form.items() if isinstance(value, str)}
    classes = [value for value in form.getlist("classes") if isinstance(value, str)]
    return _Asked(_named(text.get("model")), images, classes or None, text.get("threshold"))
