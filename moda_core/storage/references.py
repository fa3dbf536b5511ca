"""How stored things are named: ``name``, ``name@3``, ``name@prod``, or a digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from moda_core.errors import InvalidInput
from moda_core.specs import check_name

__all__ = [
    "LATEST",
    "Reference",
    "check_alias",
    "check_digest",
    "check_stored_name",
    "derived_name",
    "is_digest",
    "parse_reference",
]

LATEST = "latest"
LONGEST_NAME = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = "sha256:"
_REMEDY = "write name, name@3, name@alias or a digest of 64 hexadecimal digits"


def is_digest(text: object) -> bool:
    """Whether this is a SHA-256 as it is written everywhere here: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(field: str, text: str) -> str:
    """A digest, which is returned.

    Raises:
        InvalidInput: for anything else.
    """
    if not is_digest(text):
        raise InvalidInput(field, text, "not a SHA-256", "give 64 lower-case hexadecimal digits")
    return text


@dataclass(frozen=True)
class Reference:
    """One way to name a stored thing: by digest alone, or by name with a version, an alias, or neither.

    A name with neither means its latest version.
    """

    digest: str | None = None
    name: str | None = None
    version: int | None = None
    alias: str | None = None


@lru_cache(maxsize=4096)
def parse_reference(text: str, *, field: Literal["model", "dataset"] = "model") -> Reference:
    """Read a reference, without looking whether it exists.

    Raises:
        InvalidInput: for a string that is no reference.
    """
    if is_digest(text.removeprefix(_PREFIX)):
        return Reference(digest=text.removeprefix(_PREFIX))
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
    if is_digest(name.removeprefix(_PREFIX)):
        raise InvalidInput(field, name, "a name that reads as a digest", "use a shorter name")
    return check_name(field, name)


def derived_name(stem: str, ending: str) -> str:
    """``<stem>-<ending>``, with the stem cut where the whole would be too long for a name."""
    return f"{stem[: LONGEST_NAME - 1 - len(ending)].rstrip('._-')}-{ending}"


def check_alias(alias: str) -> str:
    """An alias: as `check_name`, but not all digits (a version) and not ``latest`` (computed).

    Raises:
        InvalidInput: for any other string.
    """
    check_name("alias", alias)
    if alias.isdigit() or alias == LATEST:
        raise InvalidInput("alias", alias, "reserved", f"use a name that is neither all digits nor {LATEST!r}")
    return alias
