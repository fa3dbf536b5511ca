"""Predictions: admitted while there is room, decoded, batched by model, answered before their time is up."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.data.images import pixels_in
from moda_core.errors import DeadlineExceeded, Overloaded, Unavailable
from moda_core.storage.registry import Registry
from service.inference.batching import Batcher
from service.inference.decoding import Decoder, EncodedImage
from service.inference.device import transfers_of
from service.inference.forms import Forms
from service.inference.lanes import Asked, MixedLane, ProbeLane, Scores
from service.inference.limits import Limits
from service.inference.preparing import Preparing
from service.inference.ready import ReadyModel, ReadyModels, out_of_memory
from service.inference.seats import Seat, Seats
from service.inference.servables import Servable
from service.inference.tenants import Tenants
from service.inference.tickets import Outcome, Ticket
from service.metrics import Metrics

__all__ = ["Engine", "Image", "Prediction", "Stages"]

_Made = TypeVar("_Made")

_CHECK_S = 5.0
_QUIET_S = 1.0
_SMALL_BYTES, _SMALL_PIXELS = 16 * 2**10, 256 * 256  # a small file may be a huge picture of one colour

Image = EncodedImage | UInt8[Tensor, "channels height width"]
"""A file, or decoded pixels of any size and colour."""


class Stages(NamedTuple):
    """Where the time of a request went, in seconds, and how many images shared its forward pass."""

    decode: float
    queue: float
    forward: float
    batch: int


@dataclass(frozen=True)
class Prediction:
    """Scores of some images, one column per label.

    Attributes:
        probabilities: one row per image.
    """

    labels: tuple[str, ...]
    logits: Float[Tensor, "images classes"]
    probabilities: list[list[float]]
    stages: Stages


class Engine:
    """Answers for one device."""

    def __init__(
        self,
        registry: Registry,
        *,
        forms: Forms,
        cache_bytes: int,
        max_pixels: int,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self.device, self.forms, self.limits = forms.device, forms, limits
        self._decoder, self._metrics, self._tenants = Decoder(max_pixels), metrics, Tenants()
        transfers = transfers_of(self.device)
        self.models = ReadyModels(
            registry, forms=forms, transfers=transfers, cache_bytes=cache_bytes, limits=limits, metrics=metrics
        )
        self._seats = Seats(self.models, self._tenants)
        self.batcher = Batcher(max_batch=limits.max_batch, overlap=transfers.overlap, ran=self._ran)
        self._preparing = Preparing(self.batcher)
        self._probe = ProbeLane(self.device)
        self._taken_on = self._taken_on_bytes = 0
        self._asked_at = -math.inf
        self._images_per_s = 0.0
        metrics.queue_depth.set_function(lambda: self._taken_on)
        if self.device.startswith("cuda"):
            metrics.device_memory.set_function(torch.cuda.memory_allocated)

    async def ready(self, servable: Servable) -> ReadyModel:
        """The servable with a network of its own, loaded or composed unless it is at hand.

        Raises:
            NotFound: when the model is no longer stored.
            StorageFailure: when it cannot be read.
            Overloaded, Unavailable: when too much waits to be loaded, or there is no memory for it.
            DeadlineExceeded: when the service's own limit is up.
        """
        return await self._in_time(self.models.get(servable), time.monotonic() + self.limits.timeout_s)

    async def predict(
        self, servable: Servable, images: Sequence[Image], *, timeout_s: float | None = None
    ) -> Prediction:
        """Scores of images of any size, with one column per label of the servable.

        Cancelled, it is taken out of the queue.

        Args:
            servable: what answers.
            images: files, or pixels of any size and colour.
            timeout_s: the service's own limit, or a shorter one.

        Raises:
            Overloaded: when too much waits already.
            DeadlineExceeded: when the time is up.
            UnreadableImage, TooLarge: for an image that cannot be used.
            NotFound, StorageFailure: as for `ready`.
        """
        ends_at = time.monotonic() + min(timeout_s or math.inf, self.limits.timeout_s)
        size_bytes = sum(len(image.data) for image in images if isinstance(image, EncodedImage))
        self._take_on(len(images), size_bytes)
        cache = self.models.cache
        try:
            with cache.in_use(servable.key, servable.mixed_key):
                seat = self._seats.at_hand(servable, len(images))
                if seat is None:
                    seat = await self._in_time(self._seats.made(servable, len(images)), ends_at)
                return await self._answered(seat, images, ends_at)
        finally:
            self._taken_on -= len(images)
            self._taken_on_bytes -= size_bytes

    async def check(self) -> None:
        """Let the device add two numbers, after the batch that runs now.

        Raises:
            Unavailable: when it does not, or its thread is gone.
        """
        answer: asyncio.Future[Outcome[float]] = asyncio.get_running_loop().create_future()
        self.batcher.put(Ticket(self._probe, lambda: None, 0, answer))
        try:
            if not self.batcher.alive:
                raise RuntimeError("its thread has ended")
            await asyncio.wait_for(answer, _CHECK_S)
        except (TimeoutError, RuntimeError) as error:
            problem = f"the device {self.device} does not answer ({str(error) or f'within {_CHECK_S} s'})"
            raise Unavailable(problem, "look at the service's log and at the device, then restart it") from error

    def is_quiet(self) -> bool:
        """Whether nothing is being answered, or was until a moment ago; from any thread."""
        return not self._taken_on and time.monotonic() - self._asked_at > _QUIET_S

    def pin(self, servable: Servable) -> None:
        """Keep the servable in memory once it is ready, until `unpin`; it need not be there yet."""
        self.models.cache.pin(servable.key)

    def unpin(self, servable: Servable) -> None:
        """Let the servable make room for others again."""
        self.models.cache.unpin(servable.key)

    def drop(self, servable: Servable) -> None:
        """Forget the servable now; what runs on it finishes."""
        self.models.cache.drop(servable.key)

    def close(self) -> None:
        """Answer what was taken on, and end the threads."""
        self._seats.close()
        self.forms.close()
        self.models.close()
        self._preparing.close()
        self.batcher.close()

    def check_room(self, images: int, size_bytes: int) -> None:
        """See whether a request would be taken on; worth asking before its body is read.

        Raises:
            Overloaded: when too much waits already.
        """
        full = self._taken_on + images > self.limits.max_queue
        heavy = self._taken_on_bytes + size_bytes > self.limits.max_queue_bytes
        if self._taken_on and (full or heavy):
            self._metrics.rejected("queue-full")
            seconds = self._taken_on / self._images_per_s if self._images_per_s else 1.0
            raise Overloaded(
                f"{self._taken_on} images of {self._taken_on_bytes} bytes wait for an answer already",
                "try again later, or send fewer at a time",
                max(1, math.ceil(min(seconds, 60.0))),
            )

    def _take_on(self, images: int, size_bytes: int) -> None:
        self.check_room(images, size_bytes)
        self._taken_on += images
        self._taken_on_bytes += size_bytes
        self._asked_at = time.monotonic()

    async def _in_time(self, making: Awaitable[_Made], ends_at: float) -> _Made:
        try:
            return await asyncio.wait_for(making, ends_at - time.monotonic())
        except TimeoutError as error:
            raise self._late() from error

    async def _answered(self, seat: Seat, images: Sequence[Image], ends_at: float) -> Prediction:
        answer: asyncio.Future[Outcome[Scores]] = asyncio.get_running_loop().create_future()
        ticket = Ticket(seat.lane, partial(self._asked, seat, images), len(images), answer)
        self._preparing.submit(ticket, small=_is_small(images))
        try:
            # Done already where the event loop has answered itself.
            outcome = answer.result() if answer.done() else await self._awaited(answer, ends_at)
        except torch.OutOfMemoryError as error:
            raise out_of_memory() from error
        stages = Stages(
            decode=outcome.prepare_s,
            queue=max(0.0, outcome.started_at - ticket.queued_at - outcome.prepare_s),
            forward=outcome.finished_at - outcome.started_at,
            batch=outcome.batch,
        )
        lane = "own" if seat.subset is None else "mixed"
        self._metrics.answered(lane, len(images), decode=stages.decode, queue=stages.queue, forward=stages.forward)
        if isinstance(seat.lane, MixedLane) and outcome.first:
            self._tenants.ran(seat.lane.root, outcome.batch, stages.forward)
        return Prediction(seat.labels, outcome.output.logits, outcome.output.probabilities, stages)

    async def _awaited(self, answer: asyncio.Future[Outcome[Scores]], ends_at: float) -> Outcome[Scores]:
        seconds = max(0.0, ends_at - time.monotonic())
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def _asked(self, seat: Seat, images: Sequence[Image]) -> Asked:
        return Asked(self._decoder.fitted(images, seat.inputs), seat.subset)

    def _give_up(self, answer: asyncio.Future[Outcome[Scores]]) -> None:
        if not answer.done():
            answer.set_exception(self._late())

    def _late(self) -> DeadlineExceeded:
        self._metrics.rejected("deadline")
        return DeadlineExceeded(
            "the answer was not there in time", "try again later, send fewer images, or allow more time"
        )

    def _ran(self, images: int, seconds: float) -> None:
        """How fast answers come, smoothed: what a refused caller is told to wait is made of it."""
        rate = images / max(seconds, 1e-6)
        self._images_per_s = rate if not self._images_per_s else 0.9 * self._images_per_s + 0.1 * rate
        self._metrics.batch_size.observe(images)


def _is_small(images: Sequence[Image]) -> bool:
    """Whether decoding them takes less time than handing them to a thread of its own."""
    if len(images) != 1 or not isinstance(images[0], EncodedImage):
        return False
    data = images[0].data
    return len(data) <= _SMALL_BYTES and pixels_in(data) <= _SMALL_PIXELS
