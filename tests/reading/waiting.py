"""Tests that wait for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["until"]


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return when a condition holds.

    Raises:
        AssertionError: when it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
