"""Server-sent events, read: the stream's lines as events, taken up again where a connection broke."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from moda_core.errors import Unavailable

__all__ = ["StreamedEvent", "parsed_events", "streamed_events"]

_ATTEMPTS = 30
_PAUSE_S = 1.0


@dataclass(frozen=True)
class StreamedEvent:
    """One event of a job: its name, its data, and the id from which the stream goes on."""

    id: str
    event: str
    data: dict[str, Any]


def parsed_events(lines: Iterable[str]) -> Iterator[StreamedEvent]:
    """The events in a stream's lines; comments and events without data are skipped."""
    last_id, fields = "", {}  # type: str, dict[str, str]
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif not line:
            last_id = fields.get("id", last_id)
            if "data" in fields:
                yield _event(last_id, fields)
            fields = {}


def _event(event_id: str, fields: dict[str, str]) -> StreamedEvent:
    data = json.loads(fields["data"])
    return StreamedEvent(event_id, fields.get("event", "message"), data if isinstance(data, dict) else {"value": data})


def streamed_events(
    connect: Callable[[str | None], AbstractContextManager[Iterable[str]]],
    *,
    finished: Callable[[], bool],
    attempts: int = _ATTEMPTS,
    pause_s: float = _PAUSE_S,
) -> Iterator[StreamedEvent]:
    """Events until `finished`, over as many connections as it takes.

    Args:
        connect: opens the stream after an event's id (from the first, if None).
        finished: whether the stream's end is the end of the job.
        attempts: how many connections in a row may bring nothing.
        pause_s: between two connections.

    Raises:
        Unavailable: when the stream cannot be had again.
    """
    last_id: str | None = None
    left = attempts
    while left:
        left -= 1
        try:
            with connect(last_id) as lines:
                for event in parsed_events(lines):
                    last_id, left = event.id or last_id, attempts
                    yield event
            if finished():
                return
        except Unavailable:
            if not left:
                raise
        time.sleep(pause_s)
    raise Unavailable("the job's events ended before the job did", "look at the job with `moda jobs`")
