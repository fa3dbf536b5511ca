"""A line on stderr that tells how far a program is, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

__all__ = ["Progress", "duration"]

_TERMINAL_EVERY_S = 0.2
_LOG_EVERY_S = 30.0


class Progress:
    """Counts steps of known number; in a terminal one line that is rewritten, in a log one every half minute.

    Args:
        what: is done, as the line begins.
        total: steps.
        done: steps that were done before, which say nothing of the speed.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.done = what, total, done
        self._before, self._clock = done, clock
        self._stream = sys.stderr if stream is None else stream
        self._in_terminal = self._stream.isatty()
        self._begun = self._shown = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.done > self._before:
            self._show("")
        if self._in_terminal:
            self._stream.write("\n")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps; `note` ends the line."""
        self.done += steps
        now = self._clock()
        if now - self._shown >= (_TERMINAL_EVERY_S if self._in_terminal else _LOG_EVERY_S):
            self._shown = now
            self._show(note)

    def line(self, note: str = "") -> str:
        """``what 120/1013, 8.1/s, 1m50s left  note``."""
        seconds = self._clock() - self._begun
        steps = self.done - self._before
        parts = [f"{self.what} {self.done}/{self.total}"]
        if steps and seconds > 0:
            rate = steps / seconds
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{duration(1 / rate)} each")
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts) + (f"  {note}" if note else "")

    def _show(self, note: str) -> None:
        start, end = ("\r\x1b[K", "") if self._in_terminal else ("", "\n")
        self._stream.write(start + self.line(note) + end)
        self._stream.flush()


def duration(seconds: float) -> str:
    """``0.4s``, ``12s``, ``3m05s``, ``2h10m``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
