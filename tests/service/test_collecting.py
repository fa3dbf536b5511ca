"""Collections of garbage do not go over the same objects again and again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from service import collecting
from service.collecting import short_collections

MANY = 10_000


@pytest.fixture(autouse=True)
def by_hand() -> Iterator[None]:
    """Only collections that the test asks for; and what it set aside comes back."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def test_what_is_there_is_set_aside_at_once_and_what_is_long_to_look_at_after_one_look():
    with short_collections(long_s=0):
        before = gc.get_freeze_count()
        assert before > 10_000
        held = [[number] for number in range(MANY)]
        gc.collect()
        assert gc.get_freeze_count() - before >= MANY
        assert len(held) == MANY


def test_a_short_collection_sets_nothing_aside():
    with short_collections(long_s=1000):
        gc.collect()
        gc.collect()
        before = gc.get_freeze_count()
        held = [[number] for number in range(100)]
        gc.collect()
        assert gc.get_freeze_count() <= before  # other threads may let go of something meanwhile
        assert len(held) == 100


def test_each_time_a_collection_must_take_twice_as_long(monkeypatch: pytest.MonkeyPatch):
    now, set_aside = 0.0, list[float]()
    monkeypatch.setattr(collecting.time, "thread_time", lambda: now)
    with short_collections(long_s=1):
        watch = gc.callbacks[-1]
        monkeypatch.setattr(collecting.gc, "freeze", lambda: set_aside.append(took))
        for took in (0.5, 1.5, 1.5, 2.5, 3.5, 3.5, 4.5):
            watch("start", {"generation": 2})
            now += took
            watch("stop", {"generation": 2})
    assert set_aside == [1.5, 2.5, 4.5]


def test_circles_that_came_since_are_still_collected():
    class Node:
        other: Node

    with short_collections(long_s=1000):
        first, second = Node(), Node()
        first.other, second.other = second, first
        seen = weakref.ref(first)
        del first, second
        gc.collect()
        assert seen() is None


def test_afterwards_nobody_listens_to_collections():
    before = list(gc.callbacks)
    with short_collections():
        assert len(gc.callbacks) == len(before) + 1
    assert gc.callbacks == before
