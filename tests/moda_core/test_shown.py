from __future__ import annotations

from collections.abc import Iterator

import pytest

from moda_core.errors import InvalidInput
from moda_core.shown import SHOWN_CHARACTERS, shown


class Watched(list):
    """A list that says how much of it was read."""

    read = 0

    def __iter__(self) -> Iterator[object]:
        for member in super().__iter__():
            self.read += 1
            yield member


@pytest.mark.parametrize(
    "value", [None, 1, 0.5, "it's", b"bytes", [], [1, "a"], (1,), (1, 2), {}, {"a": [1, {"b": None}]}, {1, 2}]
)
def test_what_is_short_is_written_as_repr_does(value: object):
    assert shown(value) == repr(value)


def test_of_a_long_list_only_the_beginning_is_read():
    value = Watched([1] * 1_000_000)
    assert shown({"threshold": value}) == repr({"threshold": [1] * 100})[: SHOWN_CHARACTERS - 1] + "…"
    assert value.read < SHOWN_CHARACTERS
    assert "…" in str(InvalidInput("threshold", value, "not a number", "give one"))
    assert value.read < 2 * SHOWN_CHARACTERS


def test_what_is_deep_or_long_is_cut():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[" * (SHOWN_CHARACTERS - 1) + "…"
    assert len(shown("x" * 10_000)) == len(shown(b"x" * 10_000)) == SHOWN_CHARACTERS
    assert shown(1 << 99_999) == "a whole number of 100000 bits"
    while deep:  # else the interpreter takes it apart by recursion
        deep = deep.pop()
