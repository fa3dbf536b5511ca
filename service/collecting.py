"""Garbage collections that nobody notices."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["no_collections", "short_collections"]


@contextmanager
def no_collections() -> Iterator[None]:
    """Meanwhile none: those that look again and again at what is being imported take a quarter of a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def short_collections(long_s: float = 0.03) -> Iterator[None]:
    """Meanwhile, no full collection of garbage goes twice over what stays.

    A collection stops every thread for as long as it looks at all objects, and torch alone is a million of them: a
    fifth of a second, about once in a second under load. So what is there at the beginning is set aside
    (`gc.freeze`), and again whatever a collection that took long has left: it has just been seen to be in use, most
    of it for good, as what torch imports with the first model is. What is set aside is still freed when its last
    reference goes, as models and requests are; but what becomes a circle later stays. So each time a collection must
    take twice as long as the time before: what stays for good is what was there at a handful of moments.

    Args:
        long_s: processor time of the first collection that is not to be repeated.
    """
    watch = _Watch(long_s)
    gc.freeze()
    gc.callbacks.append(watch)
    try:
        yield
    finally:
        gc.callbacks.remove(watch)


class _Watch:
    """Hears of every collection."""

    def __init__(self, long_s: float) -> None:
        self._long_s, self._began = long_s, 0.0

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        elif info["generation"] == 2 and time.thread_time() - self._began > self._long_s:
            gc.freeze()
            self._long_s *= 2
