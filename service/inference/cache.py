"""Values that are costly to make, kept while they fit: least recently used goes first, each made once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, ItemsView, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

_Value = TypeVar("_Value")


class ByteCache(Generic[_Value]):
    """A cache bounded in bytes, for one event loop. What is in use is never evicted.

    Args:
        max_bytes: of all kept values together; a larger value is kept, beside them, for as long as it is in use. Only
            values that are pinned or in use can make it more.
        size_of: bytes of a value.

    Attributes:
        used_bytes: of all kept values now.
        hits, misses, evictions: so far.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_Value], int]) -> None:
        self.max_bytes, self._size_of = max_bytes, size_of
        self._kept: OrderedDict[str, _Value] = OrderedDict()
        self._lent: dict[str, _Value] = {}
        self._being_made: dict[str, asyncio.Task[_Value]] = {}
        self._users: dict[str, int] = {}
        self._pinned: set[str] = set()
        self.used_bytes = self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def find(self, key: str) -> _Value | None:
        """The kept value of `key`, which counts as its use; None without one, which counts as nothing."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        else:
            value = self._lent.get(key)
        self.hits += value is not None
        return value

    def items(self) -> ItemsView[str, _Value]:
        """All kept values by key."""
        return self._kept.items()

    async def get(self, key: str, make: Callable[[], Awaitable[_Value]]) -> _Value:
        """The value of `key`; concurrent first callers wait for one `make`, and share its error."""
        if (value := self.find(key)) is not None:
            return value
        task = self._being_made.get(key)
        if task is None:
            self.misses += 1
            task = asyncio.ensure_future(self._made(key, make))
            self._being_made[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        # A caller that gives up must not take the value from the others.
        return await asyncio.shield(task)

    @contextmanager
    def in_use(self, *keys: str) -> Iterator[None]:
        """Meanwhile the values of some keys, there now or later, are not evicted."""
        users = self._users
        for key in keys:
            users[key] = users.get(key, 0) + 1
        try:
            yield
        finally:
            for key in keys:
                users[key] -= 1
                if not users[key]:
                    del users[key]
                    self._lent.pop(key, None)
            self._evict()

    def pin(self, key: str) -> None:
        """Do not evict the value of `key`, there now or later, until it is unpinned."""
        self._pinned.add(key)

    def unpin(self, key: str) -> None:
        """Let the value of `key` go when its turn comes."""
        self._pinned.discard(key)
        self._evict()

    def drop(self, key: str) -> None:
        """Keep the value of `key` no longer, pinned or not; who has got it goes on with it."""
        self._pinned.discard(key)
        self.discard(key)

    def discard(self, key: str) -> None:
        """Make the value of `key` anew when it is asked for next; who has got it goes on with it."""
        self._lent.pop(key, None)
        if key in self._kept:
            self.used_bytes -= self._size_of(self._kept.pop(key))

    async def _made(self, key: str, make: Callable[[], Awaitable[_Value]]) -> _Value:
        value = await make()
        size = self._size_of(value)
        if size <= self.max_bytes or key in self._pinned:
            self._kept[key] = value
            self.used_bytes += size
        elif key in self._users:
            self._lent[key] = value
        self._evict()
        return value

    def _evict(self) -> None:
        while self.used_bytes > self.max_bytes:
            oldest = next((key for key in self._kept if not self._needed(key)), None)
            if oldest is None:
                return
            self.drop(oldest)
            self.evictions += 1

    def _needed(self, key: str) -> bool:
        return key in self._users or key in self._pinned

    def _finished(self, key: str, task: asyncio.Task[_Value]) -> None:
        del self._being_made[key]
        if not task.cancelled():
            task.exception()  # marks it as seen, should every caller have gone
