"""What was given, as an error shows it: its beginning, at the price of its beginning."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["SHOWN_CHARACTERS", "shown"]

SHOWN_CHARACTERS = 120


def shown(value: object) -> str:
    """The value as `repr` writes it, cut short; what is cut is not written first."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > SHOWN_CHARACTERS:
            return text[: SHOWN_CHARACTERS - 1] + "…"
    return text


def _pieces(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for place, (key, member) in enumerate(value.items()):
            yield ", " if place else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(member)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "[" if isinstance(value, list) else "("
        for place, member in enumerate(value):
            yield ", " if place else ""
            yield from _pieces(member)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
    elif isinstance(value, str | bytes | bytearray):
        yield repr(value[: SHOWN_CHARACTERS + 1])
    elif isinstance(value, int) and abs(value) >= 2**64:
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield repr(value)
