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
        max_bytes: of all kept values together; a larger value is made and handed out, not kept.
        size_of: bytes of a value.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_Value], int]) -> None:
        self.max_bytes, self._size_of = max_bytes, size_of
        self._kept: OrderedDict[str, _Value] = OrderedDict()
        self._being_made: dict[str, asyncio.Task[_Value]] = {}
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
        if size <= self.max_bytes:
            self._kept[key] = value
            self.used_bytes += size
        while self.used_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.used_bytes -= self._size_of(oldest)
        return value

    def _finished(self, key: str, task: asyncio.Task[_Value]) -> None:
        del self._being_made[key]
        if not task.cancelled():
            task.exception()  # marks it as seen, should every caller have gone
