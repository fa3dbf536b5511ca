"""Why a job failed, for people and for programs: the error's words, and its class, field, value and remedy."""

from __future__ import annotations

import re
from typing import Any, Final

from moda_core import errors

__all__ = ["printable", "problem", "reason", "told"]

_SHOWN_CHARACTERS: Final = 120
_REASON_CHARACTERS: Final = 2000


def told(error: Exception) -> tuple[str, dict[str, Any]]:
    """The failure in words alone, for people and for programs: an error itself keeps the frames it came through."""
    return reason(error), problem(error)


def reason(error: Exception) -> str:
    """What the job's record says."""
    text = str(error) if isinstance(error, errors.ModaError) else f"{type(error).__name__}: {error}"
    return printable(text)[:_REASON_CHARACTERS]


def problem(error: Exception) -> dict[str, Any]:
    """The members of a problem document that let a client raise the same error again.

    ``code`` is the name of the error's class in our tree in lower case (``unreadable-file``), and
    ``internal`` for what nobody foresaw.
    """
    if not isinstance(error, errors.ModaError):
        return {"code": "internal"}
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
    members: dict[str, Any] = {"code": re.sub(r"(?<!^)(?=[A-Z])", "-", known).lower()}
    if isinstance(error, errors.InvalidInput):
        members |= {"field": error.field, "value": _shown(error.value), "remedy": error.remedy}
    elif isinstance(error, errors.NotFound):
        members |= {"field": error.kind, "value": _shown(error.name), "remedy": error.remedy}
    elif hasattr(error, "remedy"):
        members["remedy"] = error.remedy
    return {name: printable(value) if isinstance(value, str) else value for name, value in members.items()}


def printable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(value: object) -> str | int | bool | None:
    """What was given, fit for JSON and cut short."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
