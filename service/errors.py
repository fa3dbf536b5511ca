"""Every error as a problem document (RFC 9457): one table of statuses, one way to render them."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from moda_core.errors import (
    Cancelled,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    InvalidInput,
    ModaError,
    NotExportable,
    NotFound,
    Overloaded,
    PreconditionFailed,
    StorageFailure,
    TooLarge,
    TrainingFailure,
    Unavailable,
    UnreadableFile,
    UnreadableImage,
    UnsupportedType,
    Untraceable,
)
from moda_core.shown import SHOWN_CHARACTERS, shown
from service.schemas import ErrorItem, Problem

__all__ = ["CLIENT_GONE", "PROBLEM_RESPONSES", "STATUS", "handler_of", "install", "problem_response", "status_of"]

# What each error means to a client: status, code. The nearest class of an error decides.
STATUS: dict[type[ModaError], tuple[int, str]] = {
    UnreadableImage: (400, "unreadable-image"),
    UnreadableFile: (400, "unreadable-file"),
    NotFound: (404, "not-found"),
    Conflict: (409, "conflict"),
    Cancelled: (409, "cancelled"),
    PreconditionFailed: (412, "precondition-failed"),
    TooLarge: (413, "too-large"),
    UnsupportedType: (415, "unsupported-type"),
    InvalidInput: (422, "invalid-input"),
    Untraceable: (422, "untraceable"),
    NotExportable: (422, "not-exportable"),
    Overloaded: (429, "overloaded"),
    TrainingFailure: (500, "training-failure"),
    Corrupt: (500, "corrupt"),
    ModaError: (500, "internal"),
    StorageFailure: (503, "storage-failure"),
    Unavailable: (503, "unavailable"),
    DeadlineExceeded: (504, "deadline-exceeded"),
}

CLIENT_GONE = 499
"""The status of a request whose client hung up before it was answered, as nginx counts them."""

_HTTP_CODES = {404: "no-such-route", 405: "method-not-allowed", 413: "too-large", 416: "range-not-satisfiable"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_MOST_ITEMS = 50
_RETRY_AFTER_S = "5"
_INFERENCE_PROTOCOL = "/v2"

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document (RFC 9457).",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def status_of(error: ModaError) -> tuple[int, str]:
    """HTTP status and code of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem document; `members` are those of `Problem` that not every error has.

    Below ``/v2`` it is what clients of the Open Inference Protocol read: one text, and 400 for 422.
    """
    retry = {"Retry-After": _RETRY_AFTER_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    sent = {**retry, **(headers or {})}
    if request.url.path == _INFERENCE_PROTOCOL or request.url.path.startswith(f"{_INFERENCE_PROTOCOL}/"):
        spoken = HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status
        return JSONResponse({"error": _printable(detail)}, spoken, headers=sent)
    problem = Problem(
        type=f"urn:moda:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_printable(detail),
        instance=_printable(request.url.path),
        code=code,
        request_id=getattr(request.state, "request_id", ""),
        **members,
    )
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        status,
        headers=sent,
        media_type="application/problem+json",
    )


def _printable(text: str) -> str:
    """The text without lone surrogates, which no UTF-8 answer can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(value: object) -> str | int | float | bool | None:
    """What was given, fit for JSON and cut short."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, int):
        return f"a whole number of {value.bit_length()} bits"
    return _cut(value if isinstance(value, str) else shown(value))


def _cut(text: str) -> str:
    """The beginning of a text, printable."""
    text = _printable(text[: SHOWN_CHARACTERS + 1])
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _on_moda_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ModaError)
    status, code = status_of(error)
    members: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        members = {"field": _printable(error.field), "value": _shown(error.value), "remedy": _printable(error.remedy)}
    elif isinstance(error, NotFound):
        members = {"field": error.kind, "value": _shown(error.name), "remedy": _printable(error.remedy)}
    elif hasattr(error, "remedy"):
        members = {"remedy": _printable(error.remedy)}
    if isinstance(error, Overloaded):
        members["headers"] = {"Retry-After": str(error.retry_after_s)}
    return problem_response(request, status, code, str(error), **members)


def _field(location: Sequence[str | int]) -> str:
    """`spec.epochs` of `("body", "spec", "epochs")`; the tag of a union's member is left in."""
    inner = [str(part) for part in location if part not in {"body", "query", "path", "header"}]
    return ".".join(inner) or str(location[0] if location else "body")


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    items = [
        ErrorItem(field=_cut(_field(one["loc"])), value=_shown(one.get("input")), detail=_printable(one["msg"]))
        for one in error.errors()[:_MOST_ITEMS]
    ]
    detail = "; ".join(f"{item.field}: {item.detail}" for item in items[:5])
    first = items[0]
    return problem_response(
        request,
        422,
        "invalid-input",
        detail,
        field=first.field,
        value=first.value,
        remedy="see /docs for what this request takes",
        errors=items,
    )


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # FastAPI reads bodies before the endpoint, and makes a 400 of whatever fails while they arrive.
    cause = error.__cause__
    if isinstance(cause, OSError):
        return _on_moda_error(request, _storage_failure(cause))
    if isinstance(cause, ModaError):
        return _on_moda_error(request, cause)
    if isinstance(cause, ClientDisconnect):
        return _on_hang_up(request, cause)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # A body that cannot be parsed is a bad request like any other: 400 is kept for files and images.
        remedy = "see /docs for what this request takes"
        return problem_response(request, 422, "malformed", str(error.detail), field="body", remedy=remedy)
    status = error.status_code
    code = _HTTP_CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
    details = {
        404: f"there is nothing at {request.url.path}; see /docs for what there is",
        405: f"{request.method} is not possible at {request.url.path}; see /docs",
    }
    return problem_response(request, status, code, details.get(status, str(error.detail)), headers=error.headers)


def _on_hang_up(request: Request, error: Exception) -> Response:
    """Nobody reads this: it is what the log and the counters have."""
    del request, error
    return Response(status_code=CLIENT_GONE)


def _on_os_error(request: Request, error: Exception) -> Response:
    """A store or a temporary folder that takes no more, wherever it showed; anything else is a bug."""
    assert isinstance(error, OSError)
    if error.errno not in _FULL:
        raise error
    return _on_moda_error(request, _storage_failure(error))


def _storage_failure(error: OSError) -> StorageFailure:
    problem = f"what was sent could not be stored: {error.strerror or error}"
    return StorageFailure(problem, "make room in the service's temporary folder and registry, then send it again")


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    ModaError: _on_moda_error,
    RequestValidationError: _on_validation_error,
    HTTPException: _on_http_error,
    OSError: _on_os_error,
    ClientDisconnect: _on_hang_up,
}


def install(app: FastAPI) -> None:
    """Make `app` answer every foreseen error with a problem document; the rest is telemetry's."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


def handler_of(error: Exception) -> Callable[[Request, Exception], Response] | None:
    """What answers an error; None for one that nobody foresaw."""
    return next((_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS), None)
