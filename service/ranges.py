"""Parts of files: the one range of bytes that a request may ask for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["chunks", "requested_range"]

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)
_CHUNK_BYTES = 2**18


def requested_range(request: Request, etag: str, size_bytes: int) -> range | None:
    """The bytes that are asked for; None for the whole file.

    Several ranges, other units, and what is no range are answered with the whole, as the RFC allows; so is a
    range of a file that has changed since (`If-Range`).

    Raises:
        HTTPException: 416, for a range that begins behind the end.
    """
    match = _ONE_RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not (first or last) or (first and last and int(last) < int(first)):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
    if start >= size_bytes:
        problem = f"the file has {size_bytes} bytes, and the range begins behind them"
        raise HTTPException(416, problem, headers={"Content-Range": f"bytes */{size_bytes}"})
    return range(start, stop)


def chunks(source: Path | bytes, part: range) -> Iterator[bytes]:
    """The bytes of a part of a file, piece by piece."""
    if isinstance(source, bytes):
        for start in range(part.start, part.stop, _CHUNK_BYTES):
            yield source[start : min(start + _CHUNK_BYTES, part.stop)]
        return
    with source.open("rb") as file:
        file.seek(part.start)
        left = len(part)
        while left and (piece := file.read(min(_CHUNK_BYTES, left))):
            left -= len(piece)
            yield piece
