"""A header of a request, read where the server left it."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["header"]


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header, by its name in small letters; None without it.

    Starlette's `Headers` decodes every name anew for every question; each request is asked some ten of them.
    """
    for given, value in scope["headers"]:
        if given == name:
            text: str = value.decode("latin-1")
            return text
    return None
