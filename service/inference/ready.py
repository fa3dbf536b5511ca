"""Models ready to answer: loaded or composed once, kept while they fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from moda_core.errors import Overloaded, Unavailable
from moda_core.inference.executables import Executable
from moda_core.inference.mixing import Subset, subset
from moda_core.modularity.composition import compose, composition_plan
from moda_core.modularity.measures import CompositionSize, composition_size, whole_flops
from moda_core.modularity.models import Model, ModularModel, PatchedModel
from moda_core.storage.registry import Registry
from moda_core.structure.unitgraph import unit_graph
from service.inference.cache import ByteCache
from service.inference.device import Transfers
from service.inference.forms import Forms
from service.inference.lanes import MixedLane, OwnLane
from service.inference.limits import Limits
from service.inference.servables import Servable
from service.inference.tickets import Lane
from service.memory import Tidying
from service.metrics import Metrics

__all__ = ["ReadyModel", "ReadyModels", "out_of_memory"]

_Made = TypeVar("_Made")

_COMPOSE_MS = 50.0
"""What composing is thought to take before the first time."""

_SUBSET_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ReadyModel:
    """A model on its device.

    Attributes:
        lane: where its requests wait for each other.
        root: digest of the stored model that it is, or was composed of.
        size: what a composition keeps of its original; None for other models.
    """

    executable: Executable
    lane: Lane
    root: str
    size: CompositionSize | None = None


class ReadyModels:
    """The models of a registry on one device, by the key of a `Servable`.

    Loading and composing happen in a thread of their own, so that a new model does not hold up
    those that are being served.

    Args:
        cache_bytes: of networks kept ready, and as much again of the (memory-mapped) models that
            compositions are cut from.

    Attributes:
        compose_ms: what composing took lately.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        forms: Forms,
        transfers: Transfers,
        cache_bytes: int,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._registry, self._forms, self._transfers, self._metrics = registry, forms, transfers, metrics
        self._max_batch, self._max_loads, self._loads = limits.max_batch, limits.max_loads, 0
        self.cache: ByteCache[ReadyModel] = ByteCache(cache_bytes, lambda held: held.executable.size_bytes)
        self.sources: ByteCache[Model] = ByteCache(cache_bytes, _model_bytes)
        self.subsets: ByteCache[Subset] = ByteCache(_SUBSET_BYTES, lambda held: held.size_bytes)
        self.compose_ms = _COMPOSE_MS
        self._tidying = Tidying()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        metrics.watch_caches(self.cache, self.sources)

    async def get(self, servable: Servable) -> ReadyModel:
        """The servable with a network of its own, loaded or composed unless it is at hand.

        Raises:
            NotFound: when the model is no longer stored.
            StorageFailure: when it cannot be read.
        """
        return await self.cache.get(servable.key, lambda: self._made(servable))

    async def mixed(self, servable: Servable) -> tuple[ReadyModel, Subset]:
        """The whole model of a composition, for many of them at a time, and which of its units and classes are meant.

        Raises:
            NotFound, StorageFailure: as for `get`.
        """
        source = await self._modular(servable)
        model = await self.cache.get(servable.mixed_key, lambda: self._made_mixed(servable, source))
        return model, await self.subsets.get(servable.key, lambda: self._aside(lambda: _subset(servable, source)))

    async def flops_ratio(self, servable: Servable) -> float:
        """Operations of a composition, not yet made, as a share of its root's."""
        source = await self._modular(servable)
        return await self._aside(lambda: _flops_ratio(servable, source))

    def renew(self, root: str) -> None:
        """Make the models of a root anew when they are asked for next; those that answer now finish."""
        for key in [key for key, held in self.cache.items() if held.root == root]:
            self.cache.discard(key)

    def close(self) -> None:
        """Wait for what is being loaded now, and end the thread."""
        self._thread.shutdown(cancel_futures=True)

    async def _source(self, digest: str) -> Model:
        return await self.sources.get(digest, lambda: self._aside(lambda: self._registry.model(digest)))

    async def _modular(self, servable: Servable) -> ModularModel:
        source = await self._source(servable.model)
        assert isinstance(source, ModularModel)
        return source

    async def _aside(self, work: Callable[[], _Made]) -> _Made:
        """Do something in the thread that loads.

        Raises:
            Overloaded: when too much waits for it already.
            Unavailable: when the device has no memory left for it.
        """
        if self._loads >= self._max_loads:
            self._metrics.rejected("loads-full")
            raise Overloaded(f"{self._loads} models wait to be loaded or composed", "try again a little later", 1)
        self._loads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except torch.OutOfMemoryError as error:
            raise out_of_memory() from error
        finally:
            self._loads -= 1

    async def _made(self, servable: Servable) -> ReadyModel:
        started = time.perf_counter()
        source = await self._source(servable.model)
        made = await self._aside(lambda: self._assembled(servable, source))
        seconds = time.perf_counter() - started
        self._metrics.made("composed" if servable.recipe else "stored", seconds)
        if servable.recipe:
            self.compose_ms += 0.1 * (1e3 * seconds - self.compose_ms)
        return made

    def _assembled(self, servable: Servable, source: Model) -> ReadyModel:
        model, size = source, None
        if servable.recipe is not None:
            assert isinstance(source, ModularModel)
            model = compose(source, servable.labels, servable.recipe.threshold)
            size = composition_size(model, self._known_overlaps(servable))
        built = self._forms.executable(servable.model, source, model)
        self._tidying.now_and_then()  # others were evicted for those before it
        return ReadyModel(built, OwnLane(built, self._transfers, self._max_batch), servable.model, size)

    async def _made_mixed(self, servable: Servable, source: ModularModel) -> ReadyModel:
        started = time.perf_counter()
        built = await self._aside(lambda: self._forms.mixed(servable.model, source))
        self._metrics.made("mixed", time.perf_counter() - started)
        return ReadyModel(built, MixedLane(servable.model, built, self._transfers, self._max_batch), servable.model)

    def _known_overlaps(self, servable: Servable) -> dict[str, dict[str, float]] | None:
        """What the model's modules share at its own threshold, measured when it was decomposed."""
        manifest = self._registry.manifest(servable.model)
        measured = servable.recipe is not None and servable.recipe.threshold == manifest.threshold
        return (manifest.overlaps or None) if measured else None


def out_of_memory() -> Unavailable:
    """The error of a device that has no room for a model or a batch."""
    return Unavailable("the device is out of memory", "send fewer images at a time, or lower MODA_CACHE_BYTES")


def _subset(servable: Servable, source: ModularModel) -> Subset:
    assert servable.recipe is not None
    return subset(source, servable.labels, servable.recipe.threshold)


def _flops_ratio(servable: Servable, source: ModularModel) -> float:
    assert servable.recipe is not None
    planned = composition_plan(source, servable.labels, servable.recipe.threshold)
    return planned.flops / whole_flops(unit_graph(source.architecture))


def _model_bytes(model: Model) -> int:
    if isinstance(model, PatchedModel):
        return _model_bytes(model.weak) + _model_bytes(model.strong)
    counts = model.counts.counts.values() if isinstance(model, ModularModel) else ()
    return sum(tensor.nbytes for tensor in (*model.weights.values(), *counts))
