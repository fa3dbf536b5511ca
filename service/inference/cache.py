"""Values that are costly to make, kept while they fit: least recently used goes first, each made once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

_Value = TypeVar("_Value")


class ByteCache(Generic[_Value]):
    """A cache bounded in bytes, for one event loop.

    A value in use outlives its eviction: whoever got it holds it.

    Args:
        max_bytes: of all kept values together; a larger value is made and handed out, not kept. Pinned
            values are kept whatever their size.
        size_of: bytes of a value.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_Value], int]) -> None:
        self.max_bytes, self._size_of = max_bytes, size_of
        self._kept: OrderedDict[str, _Value] = OrderedDict()
        self._being_made: dict[str, asyncio.Task[_Value]] = {}
        self._pinned: set[str] = set()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    async def get(self, key: str, make: Callable[[], Awaitable[_Value]]) -> _Value:
        """The value of `key`; concurrent first callers wait for one `make`, and share its error."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._being_made.get(key)
        if task is None:
            task = asyncio.ensure_future(self._made(key, make))
            self._being_made[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # A caller that gives up must not take the value from the others.
        return await asyncio.shield(task)

    async def _made(self, key: str, make: Callable[[], Awaitable[_Value]]) -> _Value:
        value = await make()
        size = self._size_of(value)
        if size <= self.max_bytes or key in self._pinned:
            self._kept[key] = value
            self.used_bytes += size
        self._make_room()
        return value

    def pin(self, key: str) -> None:
        """Never evict the value of `key`, whether it is here yet or not."""
        self._pinned.add(key)

    def unpin(self, key: str) -> None:
        """Let the value of `key` go when its turn comes."""
        self._pinned.discard(key)
        self._make_room()

    def drop(self, key: str) -> None:
        """Forget the value of `key`, pinned or not."""
        self._pinned.discard(key)
        if key in self._kept:
            self.used_bytes -= self._size_of(self._kept.pop(key))

    def _make_room(self) -> None:
        for key in [key for key in self._kept if key not in self._pinned]:
            if self.used_bytes <= self.max_bytes:
                return
            self.used_bytes -= self._size_of(self._kept.pop(key))

    def _finished(self, key: str, task: asyncio.Task[_Value]) -> None:
        del self._being_made[key]
        if not task.cancelled():
            task.exception()  # marks it as seen, should every caller have gone
