"""Load on a service of this machine: kept connections, each with one request under way, and little else.

`wrk` sends one request over and over; here every request may be another one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter
from urllib.parse import quote, urlencode

__all__ = ["Outcome", "put_load", "request"]

_HOST = "127.0.0.1"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of a load.

    Attributes:
        seconds: from the first request to the last answer.
        statuses: answers by status; 0 counts connections that ended with a request under way.
        latencies_ms: of all answers, in the order of their arrival.
    """

    seconds: float
    statuses: Mapping[int, int]
    latencies_ms: Sequence[float]

    @property
    def per_s(self) -> float:
        """Requests answered with 200 in a second."""
        return self.statuses.get(HTTPStatus.OK, 0) / self.seconds

    @property
    def failed(self) -> int:
        """Requests with another answer, or none."""
        return sum(count for status, count in self.statuses.items() if status != HTTPStatus.OK)


def request(path: str, query: Sequence[tuple[str, str]], body: bytes, media_type: str) -> bytes:
    """The bytes of a POST; names in `query` may be given several times."""
    target = f"{path}?{urlencode(query, quote_via=quote)}"
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def put_load(port: int, requests: Sequence[bytes], *, connections: int, seconds: float, most: int) -> Outcome:
    """Send requests in turn, round and round, for so many seconds or until there were `most`.

    Raises:
        OSError: if a connection cannot be made.
        TimeoutError: if answers fail to come for a minute after the end.
    """
    return asyncio.run(_put(port, itertools.islice(itertools.cycle(requests), most), connections, seconds))


async def _put(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Outcome:
    loop, began = asyncio.get_running_loop(), perf_counter()
    seen = _Seen(requests, began + seconds)
    made = [await loop.create_connection(lambda: _Connection(seen), _HOST, port) for _ in range(connections)]
    try:
        await asyncio.wait_for(asyncio.gather(*(connection.ended for _, connection in made)), seconds + _PATIENCE_S)
    finally:
        for transport, _ in made:
            transport.abort()
    return Outcome(seen.last - began, dict(seen.statuses), seen.latencies_ms)


class _Seen:
    """What all connections share: the requests that are left, and the answers that came."""

    def __init__(self, requests: Iterator[bytes], deadline: float) -> None:
        self._requests, self._deadline = requests, deadline
        self.statuses: Counter[int] = Counter()
        self.latencies_ms: list[float] = []
        self.last = perf_counter()

    def next(self) -> bytes | None:
        return next(self._requests, None) if perf_counter() < self._deadline else None

    def answered(self, status: int, began: float) -> None:
        self.last = perf_counter()
        self.statuses[status] += 1
        self.latencies_ms.append(1e3 * (self.last - began))


class _Connection(asyncio.Protocol):
    """Sends a request when it is made and whenever an answer is whole."""

    def __init__(self, seen: _Seen) -> None:
        self._seen, self._buffer, self._began = seen, bytearray(), 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < end + 4 + _length(self._buffer[:end]):
            return
        self._seen.answered(int(self._buffer[9:12]), self._began)
        self._buffer.clear()
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._asking:
            self._seen.statuses[0] += 1
        if not self.ended.done():
            self.ended.set_result(None)

    def _ask(self) -> None:
        asked = self._seen.next()
        self._asking, self._began = asked is not None, perf_counter()
        if asked is None:
            self._transport.close()
        else:
            self._transport.write(asked)


def _length(head: bytearray) -> int:
    """Bytes of the body that a head announces."""
    name, _, rest = bytes(head).lower().partition(b"\r\ncontent-length:")
    if not rest:
        raise ValueError(f"an answer without Content-Length: {name!r}")
    return int(rest.partition(b"\r\n")[0])
