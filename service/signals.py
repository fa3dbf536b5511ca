"""SIGINT and SIGTERM, for a process that ends others before itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

__all__ = ["ENDING", "Signalled", "blocked", "until_signalled"]

ENDING = (signal.SIGINT, signal.SIGTERM)


class Signalled:
    """Whether the process was told to end, to be waited for.

    A handler runs in the midst of whatever the main thread does, a wait for a `threading.Event` too, whose lock it
    would then wait for without end; a simple queue may be put to from anywhere.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._told: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Whether it was."""
        return self._is_set

    def set(self) -> None:
        """Let it be so."""
        self._is_set = True
        self._told.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was, at the latest after so long."""
        if not self._is_set:
            with suppress(Empty):
                self._told.get(timeout=timeout_s)
        return self._is_set


@contextmanager
def until_signalled() -> Iterator[Signalled]:
    """What SIGINT and SIGTERM set; both are as before afterwards."""
    stop = Signalled()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in ENDING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Meanwhile neither is heard; what came is heard afterwards."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
