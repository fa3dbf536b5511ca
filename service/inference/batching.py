"""Work-conserving batching: whatever waits when the device is free runs, as one batch, and never waits for more.

One thread owns the device. It takes the request that has waited longest and, up to a limit, all that wait for
the same lane. A request whose answer nobody awaits any more (its caller has gone, its time is up) is left out,
so that it costs no forward pass.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.inference.tickets import Lane, Outcome, Ticket, deliver

__all__ = ["Batcher"]

_NEWEST = 0.2


@dataclass
class _Batch:
    """Tickets that run together."""

    tickets: list[Ticket[Any]]
    started_at: float
    thread_started_at: float
    finish: Callable[[], Sequence[Any]]


class Batcher:
    """Runs lanes on one device.

    Args:
        max_batch: images of the requests that are taken together; a single larger request is taken alone.
        overlap: begin the next batch before the last one's results are fetched, for devices that work on their own.
        ran: hears of every batch: images, seconds of the device. Called in the thread that ran it.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        overlap: bool = False,
        ran: Callable[[int, float], None] = lambda _images, _seconds: None,
    ) -> None:
        self.max_batch, self.overlap, self._ran = max_batch, overlap, ran
        self._waiting: OrderedDict[Lane, deque[Ticket[Any]]] = OrderedDict()
        self._wake = threading.Condition()
        self._closed, self._running, self._last_ended = False, 0, 0.0
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Images that wait now."""
        with self._wake:
            return sum(ticket.size for tickets in self._waiting.values() for ticket in tickets)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs: a request would have the device for itself."""
        return not self._waiting and not self._running

    @property
    def alive(self) -> bool:
        """Whether the device's thread runs."""
        return self._thread.is_alive()

    def put(self, *tickets: Ticket[Any]) -> None:
        """Queue requests; from any thread."""
        with self._wake:
            for ticket in tickets:
                self._waiting.setdefault(ticket.lane, deque()).append(ticket)
            self._wake.notify()

    def run_here(self, tickets: list[Ticket[Any]]) -> None:
        """Run requests of one lane in the calling thread, beside whatever the device's own runs; at most `max_batch`."""
        with self._wake:
            self._running += len(tickets)
        batch = self._started(tickets)
        if batch is not None:
            self._finish(batch)

    def close(self) -> None:
        """Run what is queued, then end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        running: _Batch | None = None
        while True:
            tickets = self._next(wait=running is None)
            if not tickets and running is None:
                return
            started = self._started(tickets) if tickets else None
            if running is not None:
                self._finish(running)
            running = started
            if running is not None and not self.overlap:
                self._finish(running)
                running = None

    def _next(self, *, wait: bool) -> list[Ticket[Any]]:
        """The tickets of the next batch; none where nothing waits, and with `wait` only when closed."""
        with self._wake:
            while True:
                taken = self._taken()
                self._running += len(taken)
                if taken or self._closed or not wait:
                    return taken
                self._wake.wait()

    def _taken(self) -> list[Ticket[Any]]:
        """From the lane whose first request has waited longest; the lock is held."""
        taken: list[Ticket[Any]] = []
        while self._waiting and not taken:
            lane = min(self._waiting, key=self._turn)
            tickets, images = self._waiting[lane], 0
            while tickets and (not taken or images + tickets[0].size <= self.max_batch):
                ticket = tickets.popleft()
                if not ticket.answer.done():
                    taken.append(ticket)
                    images += ticket.size
            if not tickets:
                del self._waiting[lane]
        return taken

    def _turn(self, lane: Lane) -> tuple[bool, float]:
        first = self._waiting[lane][0]
        return first.size > 0, first.queued_at

    def _started(self, taken: list[Ticket[Any]]) -> _Batch | None:
        tickets = [ticket for ticket in taken if ticket.prepare()]
        self._done(len(taken) - len(tickets))
        if not tickets:
            return None
        begun, thread_begun = time.perf_counter(), time.thread_time()
        try:
            return _Batch(tickets, begun, thread_begun, tickets[0].lane.start([ticket.input for ticket in tickets]))
        except Exception as error:  # noqa: BLE001 # whatever a forward pass raises is the requests' answer, not this thread's end
            self._done(len(tickets))
            deliver(tickets, error)
            return None

    def _finish(self, batch: _Batch) -> None:
        try:
            outcomes: Sequence[Outcome[Any]] | Exception = self._outcomes(batch, batch.finish())
        except Exception as error:  # noqa: BLE001 # as above
            outcomes = error
        self._done(len(batch.tickets))
        deliver(batch.tickets, outcomes)

    def _outcomes(self, batch: _Batch, outputs: Sequence[Any]) -> list[Outcome[Any]]:
        ended, images = time.perf_counter(), sum(ticket.size for ticket in batch.tickets)
        # A batch that was begun before the last one ended has waited for it on the device.
        seconds = ended - (max(batch.started_at, self._last_ended) if self.overlap else batch.started_at)
        self._last_ended = ended
        if images:
            lane = batch.tickets[0].lane
            newest = (time.thread_time() - batch.thread_started_at) / images
            lane.image_s = newest if lane.image_s == float("inf") else lane.image_s + _NEWEST * (newest - lane.image_s)
            self._ran(images, seconds)
        return [
            Outcome(output, images, place == 0, ticket.prepare_s, ended - seconds, ended)
            for place, (ticket, output) in enumerate(zip(batch.tickets, outputs, strict=True))
        ]

    def _done(self, tickets: int) -> None:
        with self._wake:
            self._running -= tickets
