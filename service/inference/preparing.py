"""Images of many requests decoded beside the event loop, with as few turns between threads as can be.

Python runs one thread at a time, and handing a request from one to the next takes longer than decoding a small image,
or than a small model's forward pass. So what arrives in one turn of the event loop goes to a thread together, and on to
the device together. A small request that finds the device idle goes straight to the device's own thread; and where
model and image together take less than a millisecond, to none: what arrives in turns that follow each other is answered
by the loop, a few milliseconds of it at a time. A caller who seems to be alone is answered then and there, by models that take
up to two milliseconds (`docs/decisions/0008-threads.md`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from service.inference.batching import Batcher
from service.inference.tickets import Lane, Ticket

__all__ = ["Preparing"]

_AT_ONCE_S = 0.001
"""For so long a thread gathers what it has prepared, before the device gets it."""

_MORE_THREADS = 8
"""Requests that wait for each thread at work before another one is woken."""

_QUICK_S = 0.0005
"""What an image's share of a forward pass may have taken lately, for the next one to be run without handing it over."""

_HERE_S = 0.005
"""What all of that may take in one turn of the event loop; the rest waits for the next."""

_GATHER_S = 0.005
"""For so long the loop goes on reading before it answers what it has read."""

_ALONE_S = 0.002
"""What an image may have taken lately, for a caller who is alone to be answered at once: nobody else waits meanwhile."""


class Preparing:
    """The way of a request from the event loop to the batcher.

    Args:
        batcher: where prepared requests go.
        threads: that prepare requests at the same time.
    """

    def __init__(self, batcher: Batcher, threads: int = 2) -> None:
        self._batcher, self._most = batcher, threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._waiting: deque[Ticket[Any]] = deque()
        self._here: deque[Ticket[Any]] = deque()
        self._lock, self._at_work, self._handing_over = threading.Lock(), 0, False
        self._arrived = self._arrived_before = self._found_before = 0
        self._gather_until = 0.0

    def submit(self, ticket: Ticket[Any], *, small: bool) -> None:
        """Take a request on its way; called on its event loop. Its answer may be there when this returns.

        Args:
            ticket: of the request.
            small: whether it is prepared faster than it is handed to another thread.
        """
        self._arrived += 1
        self._begin_gathering()
        is_next = small and not self._waiting and not self._here and self._batcher.idle
        if is_next and self._is_alone() and self._takes_at_most(_ALONE_S, ticket.lane):
            if ticket.prepare():
                self._batcher.run_here([ticket])
        elif small and self._takes_at_most(_QUICK_S, ticket.lane):
            self._here.append(ticket)
        elif is_next:
            self._batcher.put(ticket)
        else:
            self._waiting.append(ticket)

    def close(self) -> None:
        """Prepare what waits, and end the threads."""
        self._threads.shutdown()

    def _is_alone(self) -> bool:
        """Whether a request is the first since what was handed over, and that came alone; others may come, and wait for it."""
        return self._arrived == 1 and self._arrived_before == 1

    def _takes_at_most(self, seconds: float, lane: Lane) -> bool:
        """Whether an image is known to take so little; False on CUDA, where nothing runs on the loop."""
        return lane.image_s <= seconds and not self._batcher.overlap

    def _begin_gathering(self) -> None:
        if not self._handing_over:
            self._handing_over, self._found_before = True, 0
            self._gather_until = time.perf_counter() + _GATHER_S
            asyncio.get_running_loop().call_soon(self._gather)

    def _gather(self) -> None:
        """Hand over, once a turn of the loop has brought nothing more to be answered here, or there is a batch of it.

        What the loop reads in one turn arrives here in the next, behind what it has read before. It does not sleep
        meanwhile.
        """
        found = len(self._here)
        more = self._found_before < found < self._batcher.max_batch
        if more and time.perf_counter() < self._gather_until:
            self._found_before = found
            self._wake_threads()
            asyncio.get_running_loop().call_soon(self._gather)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Answer what is answered here, for as long as one turn may take, and let threads have the rest."""
        self._handing_over = False
        if self._arrived:
            self._arrived_before, self._arrived = self._arrived, 0
        for tickets in self._this_turn().values():
            self._batcher.run_here(tickets)
        if self._here:
            self._handing_over = True
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._wake_threads()

    def _wake_threads(self) -> None:
        """Wake as many as what waits for them is worth."""
        with self._lock:
            wanted = min(self._most, len(self._waiting), 1 + len(self._waiting) // _MORE_THREADS)
            more, self._at_work = max(0, wanted - self._at_work), max(wanted, self._at_work)
        for _ in range(more):
            self._threads.submit(self._work)

    def _this_turn(self) -> dict[Lane, list[Ticket[Any]]]:
        """By lane, the first requests of those that are answered here, prepared, for as long as one turn may take."""
        taken: dict[Lane, list[Ticket[Any]]] = {}
        ends_at = time.perf_counter() + _HERE_S
        while self._here and time.perf_counter() < ends_at:
            ticket = self._here.popleft()
            if ticket.prepare():
                tickets = taken.setdefault(ticket.lane, [])
                tickets.append(ticket)
                ends_at -= ticket.lane.image_s  # which it will take
                if len(tickets) == self._batcher.max_batch:
                    break
        return taken

    def _work(self) -> None:
        """Prepare until nothing waits."""
        ready: list[Ticket[Any]] = []
        since = time.perf_counter()
        while (ticket := self._next()) is not None:
            if ticket.prepare():
                ready.append(ticket)
            if time.perf_counter() - since > _AT_ONCE_S:
                self._batcher.put(*ready)
                ready, since = [], time.perf_counter()
        self._batcher.put(*ready)

    def _next(self) -> Ticket[Any] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._at_work -= 1
            return None
