"""The service's log: one JSON object per line on standard output.

A line is written for every request, and must cost little beside the answer of a small model: libraries that log
through a chain of processors take three times as long for the same line.
"""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from pydantic_core import to_json

__all__ = ["JsonLines"]


class JsonLines:
    """Writes what happened, with its level and time (UTC, ISO 8601); of values that JSON has no form for, their `repr`.

    Args:
        stream: standard output as it is now, when left out.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream

    def info(self, event: str, **members: Any) -> None:
        """Something that was expected."""
        self._write(members, event, "info")

    def exception(self, event: str, **members: Any) -> None:
        """A bug: with the traceback of the exception that is being handled."""
        self._write({**members, "exception": traceback.format_exc().rstrip()}, event, "error")

    def _write(self, members: dict[str, Any], event: str, level: str) -> None:
        now = datetime.now(UTC).isoformat().removesuffix("+00:00")
        self._stream.write(_as_json({**members, "level": level, "timestamp": f"{now}Z", "event": event}) + "\n")
        self._stream.flush()


def _as_json(line: dict[str, Any]) -> str:
    try:
        return to_json(line, fallback=repr).decode()
    except ValueError:  # text that is not Unicode: half a character, bytes of another kind
        return json.dumps(line, default=repr)
