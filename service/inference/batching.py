"""Work-conserving batching: whatever waits when the device is free runs, as one batch, and never waits for more.

One thread owns the device. It takes the request that has waited longest and, up to a limit, all that wait for
the same lane. A request whose answer nobody awaits any more (its caller has gone, its time is up) is left out,
so that it costs no forward pass.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Batcher", "Lane", "Outcome", "Ticket"]

_Output = TypeVar("_Output")


class Lane(Protocol):
    """Requests that may share a batch. Lanes are compared by identity."""

    def start(self, inputs: Sequence[Any]) -> Callable[[], Sequence[Any]]:
        """Begin a batch on the device; what is returned waits for it and gives one output for each input.

        Called in the device's thread, and so is what it returns.
        """


@dataclass(frozen=True)
class Outcome(Generic[_Output]):
    """What became of a request.

    Attributes:
        batch: how many images shared the forward pass.
        first: whether it is the first request of its batch.
        prepare_s: what making its input took.
        started_at, finished_at: of the forward pass (`time.perf_counter`).
    """

    output: _Output
    batch: int
    first: bool
    prepare_s: float
    started_at: float
    finished_at: float


@dataclass(eq=False)
class Ticket(Generic[_Output]):
    """A request on its way to the device.

    Attributes:
        make: makes what the lane takes; called once, in whichever thread needs it first.
        size: images in it.
        answer: of the event loop that awaits it; done early when nobody wants it any more.
    """

    lane: Lane
    make: Callable[[], Any]
    size: int
    answer: asyncio.Future[Outcome[_Output]]
    queued_at: float = field(default_factory=time.perf_counter)
    input: Any = None
    prepare_s: float = 0.0
    prepared: bool = False

    def prepare(self) -> bool:
        """Make the input unless it was; False where there is none: nobody wants it, or its error is the answer."""
        if self.answer.done():
            return False
        if not self.prepared:
            begun = time.perf_counter()
            try:
                self.input = self.make()
            except Exception as error:  # noqa: BLE001 # it is the caller's
                _deliver([self], error)
                return False
            self.prepared, self.prepare_s = True, time.perf_counter() - begun
        return True


@dataclass
class _Batch:
    """Tickets that run together."""

    tickets: list[Ticket[Any]]
    started_at: float
    finish: Callable[[], Sequence[Any]]


class Batcher:
    """Runs lanes on one device.

    Args:
        max_batch: images that one forward pass takes; a single larger request runs alone.
        overlap: begin the next batch before the last one's results are fetched, for devices that work on their own.
        ran: hears of every batch: its lane, images, seconds from its start to its results. Called in the
            device's thread.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        overlap: bool = False,
        ran: Callable[[Lane, int, float], None] = lambda _lane, _images, _seconds: None,
    ) -> None:
        self.max_batch, self.overlap, self._ran = max_batch, overlap, ran
        self._waiting: OrderedDict[Lane, deque[Ticket[Any]]] = OrderedDict()
        self._wake = threading.Condition()
        self._closed, self._running = False, 0
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

    def put(self, *tickets: Ticket[Any]) -> None:
        """Queue requests; from any thread."""
        with self._wake:
            for ticket in tickets:
                self._waiting.setdefault(ticket.lane, deque()).append(ticket)
            self._wake.notify()

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
            lane = min(self._waiting, key=lambda one: self._waiting[one][0].queued_at)
            tickets, images = self._waiting[lane], 0
            while tickets and (not taken or images + tickets[0].size <= self.max_batch):
                ticket = tickets.popleft()
                if not ticket.answer.done():
                    taken.append(ticket)
                    images += ticket.size
            if not tickets:
                del self._waiting[lane]
        return taken

    def _started(self, taken: list[Ticket[Any]]) -> _Batch | None:
        tickets = [ticket for ticket in taken if ticket.prepare()]
        self._done(len(taken) - len(tickets))
        if not tickets:
            return None
        begun = time.perf_counter()
        try:
            return _Batch(tickets, begun, tickets[0].lane.start([ticket.input for ticket in tickets]))
        except Exception as error:  # noqa: BLE001 # whatever a forward pass raises is the requests' answer, not this thread's end
            self._done(len(tickets))
            _deliver(tickets, error)
            return None

    def _done(self, tickets: int) -> None:
        with self._wake:
            self._running -= tickets

    def _finish(self, batch: _Batch) -> None:
        self._done(len(batch.tickets))
        try:
            outputs = batch.finish()
        except Exception as error:  # noqa: BLE001 # as above
            _deliver(batch.tickets, error)
            return
        ended, images = time.perf_counter(), sum(ticket.size for ticket in batch.tickets)
        if images:
            self._ran(batch.tickets[0].lane, images, ended - batch.started_at)
        _deliver(
            batch.tickets,
            [
                Outcome(output, images, place == 0, ticket.prepare_s, batch.started_at, ended)
                for place, (ticket, output) in enumerate(zip(batch.tickets, outputs, strict=True))
            ],
        )


def _deliver(tickets: Sequence[Ticket[Any]], outcomes: Sequence[Outcome[Any]] | Exception) -> None:
    """Hand the outcomes of a batch to the loops that await them, each loop woken once."""
    results = [outcomes] * len(tickets) if isinstance(outcomes, Exception) else outcomes
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for ticket, result in zip(tickets, results, strict=True):
        by_loop.setdefault(ticket.answer.get_loop(), []).append((ticket.answer, result))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # of a loop that has closed, and awaits nothing any more
            loop.call_soon_threadsafe(_settle, answers)


def _settle(answers: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    for answer, result in answers:
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
