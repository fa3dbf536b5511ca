"""Memory and open files of a process while something happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.endurance.trends import Trend, last_half

__all__ = ["Sample", "Sampler", "sample"]

_FIELDS = {"VmRSS:": "resident", "RssAnon:": "anonymous", "Threads:": "threads"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at a process.

    Attributes:
        done: requests that had been answered.
        resident: bytes in memory. Unlike the proportional share of them, it does not depend on which other
            processes have the same libraries open.
        anonymous: bytes of these that are no file's: heap and stacks, where a leak shows.
        files: open descriptors.
    """

    done: int
    resident: int
    anonymous: int
    threads: int
    files: int


def sample(pid: int, done: int = 0) -> Sample:
    """A process now."""
    folder, found = Path(f"/proc/{pid}"), {}
    for line in (folder / "status").read_text().splitlines():
        name, *rest = line.split()
        if name in _FIELDS:
            found[_FIELDS[name]] = int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return Sample(done=done, files=sum(1 for _ in (folder / "fd").iterdir()), **found)


class Sampler:
    """Looks at a process at equal intervals, from entering until leaving.

    Args:
        done: how many requests have been answered.
    """

    def __init__(self, pid: int, done: Callable[[], int], *, interval_s: float) -> None:
        self._pid, self._done, self._interval_s = pid, done, interval_s
        self.samples: list[Sample] = []

    async def __aenter__(self) -> Self:
        self._look()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._look()

    def growth(self, what: str) -> Trend:
        """The trend of `resident`, `anonymous`, `threads` or `files` over the last half, per request."""
        return last_half([one.done for one in self.samples], [getattr(one, what) for one in self.samples])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self._look()

    def _look(self) -> None:
        self.samples.append(sample(self._pid, self._done()))
