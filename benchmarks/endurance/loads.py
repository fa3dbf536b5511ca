"""Load of two kinds: as fast as answers come, and as fast as was decided, whatever becomes of the answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import quantiles

from benchmarks.endurance.connections import Answer, Connection

__all__ = ["Tally", "closed_loop", "open_loop"]

OK, TOO_MANY = 200, 429


@dataclass
class Tally:
    """What became of the requests of a load.

    Attributes:
        statuses: answers by status; those that never came under 0.
        seconds: of each answer of 200, in order: in a closed loop since it was sent, in an open one since it was due.
        without_retry_after: answers of 429 that do not say when to come again.
        unsent: that the load generator did not get round to.
        lasted_s: from the first request to the last answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    unsent: int = 0
    lasted_s: float = 0.0

    @property
    def done(self) -> int:
        """Requests whose fate is known."""
        return self.statuses.total()

    @property
    def errors(self) -> int:
        """Requests that were neither answered with 200 nor refused with 429."""
        return self.done - self.statuses[OK] - self.statuses[TOO_MANY]

    @property
    def rate(self) -> float:
        """Answers of 200 per second."""
        return self.statuses[OK] / self.lasted_s

    def quantile_ms(self, percent: int) -> float:
        """Time within which so many percent of the answers of 200 came; not a number without two of them."""
        if len(self.seconds) < 2:
            return float("nan")
        return 1e3 * quantiles(self.seconds, n=100, method="inclusive")[percent - 1]

    def count(self, answer: Answer | None, seconds: float) -> None:
        """One more request."""
        self.statuses[answer.status if answer else 0] += 1
        if answer and answer.status == OK:
            self.seconds.append(seconds)
        if answer and answer.status == TOO_MANY and answer.retry_after_s is None:
            self.without_retry_after += 1


async def closed_loop(port: int, requests: Iterable[bytes], connections: int, tally: Tally) -> None:
    """Send requests over some connections, each sending its next when it has its answer, until none is left."""
    began, left = time.perf_counter(), iter(requests)
    await asyncio.gather(*(_until_none_is_left(port, left, tally) for _ in range(connections)))
    tally.lasted_s = time.perf_counter() - began


async def open_loop(port: int, content: bytes, rate: float, seconds: float, tally: Tally, most: int = 1024) -> None:
    """Send a request at equal intervals for some time, however many are unanswered.

    Args:
        port: of this machine.
        content: of the request.
        rate: per second.
        seconds: for how long.
        tally: where they are counted.
        most: unanswered at a time; beyond that the load generator itself would be what is measured.
    """
    began, pool = time.perf_counter(), _Pool(port)
    under_way: set[asyncio.Task[None]] = set()
    for number in itertools.count():
        due = began + number / rate
        if due >= began + seconds or time.perf_counter() >= began + seconds:
            tally.unsent += round(rate * seconds) - number
            break
        # Even when late: else no answer would be read until the load has caught up.
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if len(under_way) >= most:
            tally.unsent += 1
            continue
        task = asyncio.create_task(_one(pool.ask(content), due, tally))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    tally.lasted_s = time.perf_counter() - began
    pool.close()


async def _until_none_is_left(port: int, left: Iterator[bytes], tally: Tally) -> None:
    pool = _Pool(port)
    for content in left:
        await _one(pool.ask(content), time.perf_counter(), tally)
    pool.close()


async def _one(asking: Awaitable[Answer], since: float, tally: Tally) -> None:
    answer: Answer | None = None
    with suppress(OSError):
        answer = await asking
    tally.count(answer, time.perf_counter() - since)


class _Pool:
    """Connections that are free, taken in turn: so none is idle for as long as makes the service close it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: deque[Connection] = deque()

    async def ask(self, content: bytes) -> Answer:
        """Over a free connection, or a new one."""
        while self._free and not self._free[0].is_open:
            self._free.popleft()
        connection = self._free.popleft() if self._free else await Connection.to(self._port)
        try:
            answer = await connection.ask(content)
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close all that are free."""
        for connection in self._free:
            connection.close()
        self._free.clear()
