"""HTTP/1.1 over connections that stay open, with as little of the client's own time as Python allows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import quote, urlencode

__all__ = ["Answer", "Connection", "request"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        retry_after_s: the header's seconds; None without it.
    """

    status: int
    retry_after_s: int | None
    body: bytes


def request(
    method: str,
    path: str,
    *,
    query: Mapping[str, str | list[str]] | None = None,
    body: bytes = b"",
    content_type: str = "application/json",
) -> bytes:
    """A request's bytes, made once and sent often."""
    target = quote(path) + (f"?{urlencode(query, doseq=True)}" if query else "")
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, f"Content-Type: {content_type}", "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One request at a time, its answer awaited."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def to(cls, port: int) -> Self:
        """A connection to a port of this machine.

        Raises:
            OSError: when nobody listens.
        """
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, content: bytes) -> Answer:
        """Send a request, and wait for its answer.

        Raises:
            OSError: when the other side hangs up first, or a minute passes.
        """
        if self._transport is None or not self.is_open:
            raise ConnectionResetError("the connection has been closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return await asyncio.wait_for(self._answer, _PATIENCE_S)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; an answer may come in pieces."""
        self._received += data
        ends = self._received.find(b"\r\n\r\n")
        if ends < 0:
            return
        head = bytes(self._received[:ends])
        length = _number(_LENGTH, head) or 0
        if len(self._received) < ends + 4 + length:
            return
        body = bytes(self._received[ends + 4 :])
        self._received.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(int(head[9:12]), _number(_RETRY_AFTER, head), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("hung up before the answer"))


def _number(pattern: re.Pattern[bytes], head: bytes) -> int | None:
    found = pattern.search(head)
    return int(found[1]) if found else None
