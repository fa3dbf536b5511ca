"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
import time

__all__ = ["Tidying"]

_PAUSE_S = 10.0


def _give_back() -> None:
    """What glibc's `malloc_trim` does; nothing with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Tidying:
    """Gives freed memory back now and then.

    glibc keeps what is freed between values that stay, and where a new one fits into no gap it takes more: a service
    that composes all day, each model of another size, would grow by some bytes with every one.

    Args:
        pause_s: between two times; one takes some milliseconds, in which others wait for memory.
    """

    def __init__(self, pause_s: float = _PAUSE_S) -> None:
        self._pause_s, self._last = pause_s, time.monotonic()

    def now_and_then(self) -> None:
        """Give it back, unless that was done a moment ago; worth calling when something large may have been freed."""
        now = time.monotonic()
        if now - self._last >= self._pause_s:
            self._last = now
            _give_back()
