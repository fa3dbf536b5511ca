"""Problem details (RFC 9457), read: the error of `moda_core.errors` that a service meant."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from moda_core import errors

__all__ = ["error_from_problem", "error_from_response"]

_CODES: dict[str, type[errors.ModaError]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(): getattr(errors, name) for name in errors.__all__
}
_STATUSES: dict[int, type[errors.ModaError]] = {
    400: errors.InvalidInput,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    415: errors.UnsupportedType,
    422: errors.InvalidInput,
    429: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def error_from_response(status: int, content: bytes) -> errors.ModaError:
    """The error that an answer of 400 or above stands for, with the message it had in the service.

    Its class comes from the problem's ``code``, else from the status; a plain `ModaError` is left for
    what is neither.
    """
    return error_from_problem(_problem(content), status)


def error_from_problem(problem: Mapping[str, Any], status: int) -> errors.ModaError:
    """The error that the members of a problem document stand for; `status` decides where its ``code`` does not."""
    kind = _CODES.get(str(problem.get("code"))) or _STATUSES.get(status, errors.ModaError)
    # Made without __init__, which would compose the message anew from parts that arrive cut short.
    error = kind.__new__(kind, _message(status, problem))
    field, value, remedy = problem.get("field"), problem.get("value"), problem.get("remedy")
    vars(error).update(field=field, value=value, problem=problem.get("detail"), remedy=remedy)
    if isinstance(error, errors.NotFound):
        error.kind, error.name = str(field), str(value)
    return error


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _message(status: int, problem: Mapping[str, Any]) -> str:
    message = str(problem.get("detail") or problem.get("title") or f"the service answered with status {status}")
    items = problem.get("errors") or []
    if len(items) > 1:
        message += "".join(f"\n  {item.get('field')}: {item.get('detail')}" for item in items)
    return message
