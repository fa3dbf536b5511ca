"""Headers of a request, read where the server left them."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["declared_bytes", "header", "media_type"]

_BY_NAME = "moda.headers"


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header, by its name in small letters; None without it.

    Starlette's `Headers` decodes every name anew for every question; each request is asked some ten of them. They are
    put in order at the first: nothing may change them afterwards.
    """
    by_name = scope.get(_BY_NAME)
    if by_name is None:
        by_name = scope[_BY_NAME] = dict(reversed(scope["headers"]))
    value = by_name.get(name)
    return None if value is None else value.decode("latin-1")


def declared_bytes(scope: Scope) -> int:
    """What `Content-Length` says of the body; 0 where it says nothing."""
    declared = header(scope, b"content-length") or ""
    return int(declared) if declared.isdecimal() else 0


def media_type(scope: Scope) -> str:
    """The body's type without its parameters, in small letters; empty where none is named."""
    return (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
