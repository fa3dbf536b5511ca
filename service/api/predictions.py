"""`POST /predict`: images in three ways, probabilities in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect

from moda_core.errors import InvalidInput, UnsupportedType
from service.answers import prediction_members
from service.api.asking import predicted
from service.api.dependencies import parts_of_app
from service.api.forms import parts_of
from service.headers import declared_bytes, header, media_type
from service.inference.decoding import EncodedImage, from_base64
from service.inference.engine import Prediction
from service.oip.bodies import read_json
from service.remembering import remembered
from service.schemas import MAX_CLASSES, MAX_IMAGES, MAX_LABEL, MAX_REFERENCE, PredictionList, PredictRequest

__all__ = ["answer", "router"]

router = APIRouter(tags=["inference"])

TIMEOUT = "X-Request-Timeout-Seconds"
"""The header by which a caller says how long it will wait."""

_TIMEOUT = TIMEOUT.lower().encode()

# A form of so many bytes is taken apart on the event loop; a thread would cost more.
_READ_AT_ONCE_BYTES = 256 * 1024
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


@router.post("/predict", openapi_extra=_BODY, response_model=PredictionList)
async def predict(
    request: Request,
    model: Annotated[
        str | None,
        Query(max_length=MAX_REFERENCE, description="With an `image/*` body: a model reference or composition id."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        Query(max_length=MAX_CLASSES, description="With an `image/*` body: compose the model for these classes first."),
    ] = None,
    threshold: Annotated[str | None, Query(description="With an `image/*` body: τ of that composition.")] = None,
    timeout_s: Annotated[
        str | None, Header(alias=TIMEOUT, description="Give up after so many seconds, with 504.")
    ] = None,
) -> Response:
    """Classify one or more images.

    `model` is a reference or a composition's id; with `classes` the model is composed for them
    first. Probabilities stand in the order of `classes` in the answer, which is that of the request.
    """
    del model, classes, threshold, timeout_s  # `answer` reads them, with or without FastAPI before it
    return await answer(request)


async def answer(request: Request) -> Response:
    """What `POST /predict` answers, from the request alone."""
    parts = parts_of_app(request.app)
    parts.engine.check_room(1, declared_bytes(request.scope))
    timeout_s, asked = _timeout(request), await _asked(request)
    meant = await parts.servables.find(asked.model, asked.classes, asked.threshold)

    async def write(found: Prediction) -> Response:
        members = prediction_members(meant, found.labels, found.probabilities)
        return Response(to_json(members), media_type="application/json")

    return await predicted(request, parts, meant, asked.images, write, timeout_s=timeout_s)


def _timeout(request: Request) -> float | None:
    given = header(request.scope, _TIMEOUT)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidInput(TIMEOUT, given, "not a length of time", "give a number of seconds above 0")
    return seconds


async def _asked(request: Request) -> _Asked:
    sent = media_type(request.scope)
    if sent.startswith("image/"):
        return _from_query(request.scope["query_string"], await _body(request))
    if sent == "multipart/form-data":
        form, content_type = await _body(request), header(request.scope, b"content-type") or ""
        if len(form) <= _READ_AT_ONCE_BYTES:
            return _from_form(form, content_type)
        return await run_in_threadpool(_from_form, form, content_type)
    if sent == "application/json":
        # 60 MiB of it take half a second to read: not on the event loop.
        return await run_in_threadpool(_from_json, await _body(request))
    remedy = "send image/*, multipart/form-data or application/json"
    raise UnsupportedType("Content-Type", sent, "not a type that can be predicted", remedy)


async def _body(request: Request) -> bytes:
    """All of the request's body; Starlette's own reader is a generator, and takes longer than a small body.

    Raises:
        ClientDisconnect: when the caller hangs up before the end.
    """
    pieces = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _checked(model: str | None, images: list[EncodedImage], classes: list[str], threshold: str | None) -> _Asked:
    """What a query or a form asks for, within the limits of JSON."""
    if not model:
        raise InvalidInput("model", model, "no model named", "name one, such as ?model=digits-cnn")
    if len(model) > MAX_REFERENCE:
        raise InvalidInput("model", model, "too long for a name", f"give at most {MAX_REFERENCE} characters")
    if len(classes) > MAX_CLASSES:
        raise InvalidInput("classes", classes, "too many classes", f"name at most {MAX_CLASSES}")
    if not all(0 < len(label) <= MAX_LABEL for label in classes):
        raise InvalidInput("classes", classes, "not labels", f"give each in 1 to {MAX_LABEL} characters")
    return _Asked(model, images, classes or None, threshold)


def _from_query(query: bytes, body: bytes) -> _Asked:
    model, classes, threshold = _named_in(query)
    return _checked(model, [EncodedImage("image", body)], list(classes), threshold)


@remembered(most=512, longest=512)
def _named_in(query: bytes) -> tuple[str | None, tuple[str, ...], str | None]:
    """Model, classes and threshold; callers send the same query with every image."""
    named = QueryParams(query)
    return named.get("model"), tuple(named.getlist("classes")), named.get("threshold")


def _from_json(body: bytes) -> _Asked:
    asked = read_json(PredictRequest, body)
    images = [from_base64(f"instances.{index}.b64", one.b64) for index, one in enumerate(asked.instances)]
    return _Asked(asked.model, images, asked.classes, asked.threshold)


def _from_form(body: bytes, content_type: str) -> _Asked:
    remedy = f"send multipart/form-data with at most {MAX_IMAGES} images and as many other parts"
    found = parts_of(body, content_type, most=2 * MAX_IMAGES, remedy=remedy)
    files = [part for part in found if part.name == "image" and part.file_name is not None]
    if not files:
        raise InvalidInput("image", None, "no image file", "send one part named image per image, with a file name")
    if len(files) > MAX_IMAGES:
        raise InvalidInput("body", f"{len(files)} images", "too many images", f"send at most {MAX_IMAGES} images")
    images = [EncodedImage(f"image[{index}]", part.data) for index, part in enumerate(files)]
    text = {part.name: part.text for part in found if part.file_name is None}
    classes = [part.text for part in found if part.name == "classes" and part.file_name is None]
    return _checked(text.get("model"), images, classes, text.get("threshold"))
