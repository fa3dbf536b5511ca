"""The last quarter of a second in which callers are answered over connections that stay open."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Draining"]

_DRAIN_S = 0.25


class Draining:
    """From SIGTERM on, every answer says that its connection closes; a moment later the server begins to stop.

    A server that stops closes the connections that are idle, and what a caller has just sent down one of them is
    lost. After this moment nobody who asks without pause has such a connection any more.

    Attributes:
        begun: whether answers say so.
    """

    def __init__(self) -> None:
        self.begun = False

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Meanwhile SIGTERM begins the drain, and reaches who listened to it before when that is over.

        Only the main thread hears signals; elsewhere nothing changes.
        """
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return
        loop, stop = asyncio.get_running_loop(), before

        def drain() -> None:
            if self.begun:  # whoever asks again means it
                stop(signal.SIGTERM, None)
                return
            self.begun = True
            loop.call_later(_DRAIN_S, stop, signal.SIGTERM, None)

        loop.add_signal_handler(signal.SIGTERM, drain)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, before)
