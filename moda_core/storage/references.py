"""How stored things are named: ``name``, ``name@3``, ``name@prod``, or a digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from moda_core.errors import InvalidInput
from moda_core.specs import check_name

__all__ = ["LATEST", "Reference", "check_alias", "check_stored_name", "parse_reference"]

LATEST = "latest"
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_REMEDY = "write name, name@3, name@alias or a digest of 64 hexadecimal digits"


@dataclass(frozen=True)
class Reference:
    """One way to name a stored thing: by digest alone, or by name with a version, an alias, or neither.

    A name with neither means its latest version.
    """

    digest: str | None = None
    name: str | None = None
    version: int | None = None
    alias: str | None = None


def parse_reference(text: str, *, field: Literal["model", "dataset"] = "model") -> Reference:
    """Read a reference, without looking whether it exists.

    Raises:
        InvalidInput: for a string that is no reference.
    """
    digest = _DIGEST.fullmatch(text)
    if digest:
        return Reference(digest=digest[1])
    name, at, selector = text.partition("@")
    try:
        check_name(field, name)
        if not at or selector == LATEST:
            return Reference(name=name)
        if re.fullmatch(r"[0-9]{1,18}", selector):
            return Reference(name=name, version=int(selector))
        return Reference(name=name, alias=check_alias(selector))
    except InvalidInput as error:
        raise InvalidInput(field, text, "not a reference", _REMEDY) from error


def check_stored_name(field: str, name: str) -> str:
    """A name to publish under: as `check_name`, and not one that reads as a digest.

    Raises:
        InvalidInput: for any other string.
    """
    if _DIGEST.fullmatch(name):
        raise InvalidInput(field, name, "a name that reads as a digest", "use a shorter name")
    return check_name(field, name)


def check_alias(alias: str) -> str:
    """An alias: as `check_name`, but not all digits (a version) and not ``latest`` (computed).

    Raises:
        InvalidInput: for any other string.
    """
    check_name("alias", alias)
    if alias.isdigit() or alias == LATEST:
        raise InvalidInput("alias", alias, "reserved", f"use a name that is neither all digits nor {LATEST!r}")
    return alias
