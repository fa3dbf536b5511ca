"""Tests that wait for what happens elsewhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing

__all__ = ["listens", "until"]


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return when a condition holds.

    Raises:
        AssertionError: when it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port of this machine."""
    with closing(socket.socket()) as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0
