"""A line on stderr that tells how far a program is, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from moda_core.training.reports import EpochReport

__all__ = ["Line", "Progress", "duration", "epochs"]

_TERMINAL_EVERY_S = 0.2
_LOG_EVERY_S = 30.0


class Line:
    """A line on stderr: rewritten in a terminal, in a log written anew at most every half minute."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = sys.stderr if stream is None else stream, clock
        self.in_terminal = self.stream.isatty()
        self._shown = clock()

    def show(self, text: str, *, last: bool = False) -> None:
        """Show a text, unless another was shown a moment ago; the last one always."""
        now = self.clock()
        if last or now - self._shown >= (_TERMINAL_EVERY_S if self.in_terminal else _LOG_EVERY_S):
            self._shown = now
            start, end = ("\r\x1b[K", "\n" if last else "") if self.in_terminal else ("", "\n")
            self.stream.write(start + text + end)
            self.stream.flush()


class Progress:
    """Counts steps of a known number.

    Args:
        what: is done, as the line begins.
        total: steps.
        done: steps that were done before, which say nothing of the speed.
    """

    def __init__(self, what: str, total: int, *, done: int = 0, line: Line | None = None) -> None:
        self.what, self.total, self.done = what, total, done
        self._line = line or Line()
        self._before, self._begun = done, self._line.clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.done > self._before:
            self._line.show(self.text(), last=True)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps; `note` ends the line."""
        self.done += steps
        self._line.show(self.text(note))

    def text(self, note: str = "") -> str:
        """``what 120/1013, 8.1/s, 1m50s left  note``."""
        seconds = self._line.clock() - self._begun
        steps = self.done - self._before
        parts = [f"{self.what} {self.done}/{self.total}"]
        if steps and seconds > 0:
            rate = steps / seconds
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{duration(1 / rate)} each")
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts) + (f"  {note}" if note else "")


def epochs(what: str, line: Line | None = None) -> Callable[[EpochReport], None]:
    """What training reports after every epoch, as a line."""
    shown = line or Line()

    def report(done: EpochReport) -> None:
        text = (
            f"{what}: epoch {done.epoch}/{done.epochs}, loss {done.loss:.4f}, accuracy {done.accuracy:.4f},"
            f" {done.samples_per_s:.0f} images/s, {duration(done.remaining_s)} left"
        )
        shown.show(text, last=done.epoch == done.epochs)

    return report


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
