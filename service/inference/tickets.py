"""Requests on their way to the device, and their answers on the way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Lane", "Outcome", "Ticket", "deliver"]

_Output = TypeVar("_Output")


class Lane(Protocol):
    """Requests that may share a batch. Lanes are compared by identity.

    Attributes:
        image_s: processor time for each image, lately, of the thread that starts and finishes batches, however long
            it waited for its turn meanwhile; infinite before the first batch.
    """

    image_s: float

    def start(self, inputs: Sequence[Any]) -> Callable[[], Sequence[Any]]:
        """Begin a batch on the device; what is returned waits for it and gives one output for each input."""


class Outcome(NamedTuple, Generic[_Output]):
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
        size: images in it; 0 goes before all others.
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
                deliver([self], error)
                return False
            self.prepared, self.prepare_s = True, time.perf_counter() - begun
        return True


def deliver(tickets: Sequence[Ticket[Any]], outcomes: Sequence[Outcome[Any]] | Exception) -> None:
    """Hand the outcomes of a batch to the loops that await them, each loop woken once; from any thread."""
    results = [outcomes] * len(tickets) if isinstance(outcomes, Exception) else outcomes
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for ticket, result in zip(tickets, results, strict=True):
        by_loop.setdefault(ticket.answer.get_loop(), []).append((ticket.answer, result))
    here = _running_loop()
    for loop, answers in by_loop.items():
        if loop is here:
            _settle(answers)
            continue
        with suppress(RuntimeError):  # of a loop that has closed, and awaits nothing any more
            loop.call_soon_threadsafe(_settle, answers)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(answers: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    for answer, result in answers:
        if answer.done():
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
