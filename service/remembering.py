"""What callers send again and again, read once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

__all__ = ["remembered"]

_Text = TypeVar("_Text", str, bytes)
_Value = TypeVar("_Value")


def remembered(*, most: int, longest: int) -> Callable[[Callable[[_Text], _Value]], Callable[[_Text], _Value]]:
    """A function of one text that remembers its answers, within memory that no caller can fill.

    Args:
        most: answers; least recently asked goes first.
        longest: length of a text; what is longer is read anew each time.
    """

    def remembering(read: Callable[[_Text], _Value]) -> Callable[[_Text], _Value]:
        known = lru_cache(maxsize=most)(read)

        @wraps(read)
        def answer(text: _Text) -> _Value:
            return known(text) if len(text) <= longest else read(text)

        return answer

    return remembering
