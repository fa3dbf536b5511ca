"""Where a request waits for its forward pass: with those for the same model, or for others of the same root."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from moda_core.errors import ModaError
from moda_core.inference.mixing import Subset
from moda_core.specs import InputSpec
from service.inference.ready import ReadyModel, ReadyModels
from service.inference.servables import Servable
from service.inference.tenants import Tenants
from service.inference.tickets import Lane

__all__ = ["Seat", "Seats"]


@dataclass(frozen=True)
class Seat:
    """A place in a lane.

    Attributes:
        labels: of the scores that will come.
        inputs: what images are fitted to, one per input of the network.
        subset: the classes that are meant, in a lane that many share.
    """

    lane: Lane
    labels: tuple[str, ...]
    inputs: Sequence[InputSpec]
    subset: Subset | None = None


class Seats:
    """Gives every request its seat, and compositions a model of their own when it pays."""

    def __init__(self, models: ReadyModels, tenants: Tenants) -> None:
        self._models, self._tenants = models, tenants
        self._looking: dict[str, asyncio.Task[None]] = {}

    def at_hand(self, servable: Servable, images: int) -> Seat | None:
        """A seat that needs no waiting for."""
        model = self._models.cache.find(servable.key)
        if model is not None:
            return self._own(servable, model, images)
        if servable.recipe is None:
            return None
        mixed, subset = self._models.cache.find(servable.mixed_key), self._models.subsets.find(servable.key)
        return self._shared(servable, mixed, subset, images) if mixed and subset else None

    async def made(self, servable: Servable, images: int) -> Seat:
        """A seat whose model is loaded first: one of its own for a stored model, a shared one for a composition.

        Raises:
            NotFound: when the model is no longer stored.
            StorageFailure: when it cannot be read.
            Overloaded, Unavailable: when too much waits to be loaded, or there is no memory for it.
        """
        if servable.recipe is None:
            return self._own(servable, await self._models.get(servable), images)
        return self._shared(servable, *await self._models.mixed(servable), images)

    def close(self) -> None:
        """Look at nothing more."""
        for task in self._looking.values():
            task.cancel()

    def _own(self, servable: Servable, model: ReadyModel, images: int) -> Seat:
        if servable.recipe is not None:
            self._tenants.asked(servable.model, servable.key, images)
        return Seat(model.lane, model.executable.labels, model.executable.inputs)

    def _shared(self, servable: Servable, model: ReadyModel, subset: Subset, images: int) -> Seat:
        if self._tenants.asked(servable.model, servable.key, images) and servable.key not in self._looking:
            self._looking[servable.key] = asyncio.ensure_future(self._look(servable))
        return Seat(model.lane, subset.labels, model.executable.inputs, subset)

    async def _look(self, servable: Servable) -> None:
        """Compose, beside the traffic, if it pays; what fails shows when the model is asked for by itself."""
        try:
            with suppress(ModaError):
                ratio = await self._models.flops_ratio(servable)
                if self._tenants.would_pay(servable.model, servable.key, ratio, self._models.compose_ms):
                    await self._models.get(servable)
                    self._tenants.made(servable.model, servable.key)
        finally:
            del self._looking[servable.key]
