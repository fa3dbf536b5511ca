"""Bodies of requests, unpacked and read as JSON."""

from __future__ import annotations

import zlib
from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from moda_core.errors import InvalidInput, TooLarge, UnsupportedType

__all__ = ["optional_json", "read_json", "unpacked_body"]

# zlib's `wbits`, by what HTTP calls the encodings.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

_MOST_FAULTS = 50

_Model = TypeVar("_Model", bound=BaseModel)


async def unpacked_body(request: Request, limit_bytes: int) -> bytes:
    """The request's body, decompressed when its `Content-Encoding` is gzip or deflate.

    Raises:
        UnsupportedType: for another encoding.
        InvalidInput: for bytes that are not in it.
        TooLarge: for more than `limit_bytes` after decompression.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    body = await request.body()
    if encoding == "identity":
        return body
    return await run_in_threadpool(_decompressed, body, encoding, limit_bytes)


def _decompressed(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding not in _WINDOWS:
        raise UnsupportedType("Content-Encoding", encoding, "not an encoding that is read", "use gzip, deflate or none")
    unpacking = zlib.decompressobj(_WINDOWS[encoding])
    remedy = "send one whole stream of the named encoding"
    try:
        plain = unpacking.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("body", body[:16], f"not {encoding}", remedy) from error
    if len(plain) > limit_bytes:
        problem = f"the body is larger than {limit_bytes} bytes once it is decompressed"
        raise TooLarge("body", f"{len(body)} bytes of {encoding}", problem, f"send at most {limit_bytes} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput("body", f"{len(body)} bytes", f"broken {encoding}", remedy)
    return plain


async def optional_json(request: Request, model: type[_Model], limit_bytes: int) -> _Model:
    """The body as `model`; none at all is an empty object.

    Raises:
        RequestValidationError: for anything else than such an object.
        UnsupportedType, InvalidInput, TooLarge: as `unpacked_body`.
    """
    body = await unpacked_body(request, limit_bytes)
    return await run_in_threadpool(read_json, model, body.strip() or b"{}")


def read_json(model: type[_Model], text: bytes) -> _Model:
    """JSON as `model`.

    Raises:
        RequestValidationError: which says where it differs.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        # Without the inputs: an image of a million numbers would be written out to be cut short.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        located = [{**one, "loc": ("body", *one["loc"])} for one in found[:_MOST_FAULTS]]
        raise RequestValidationError(located) from error
