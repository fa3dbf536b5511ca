"""Models ready to answer: loaded or composed once, kept while they fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from moda_core.inference.executables import Executable
from moda_core.modularity.composition import compose
from moda_core.modularity.measures import CompositionSize, composition_size
from moda_core.modularity.models import Model, ModularModel, PatchedModel
from moda_core.storage.registry import Registry
from service.inference.cache import ByteCache
from service.inference.device import Transfers
from service.inference.forms import Forms
from service.inference.lanes import OwnLane
from service.inference.servables import Servable
from service.metrics import Metrics

__all__ = ["ReadyModel", "ReadyModels"]

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class ReadyModel:
    """A model on its device.

    Attributes:
        lane: where its requests wait for each other.
        size: what a composition keeps of its original; None for a stored model.
    """

    executable: Executable
    lane: OwnLane
    size: CompositionSize | None


class ReadyModels:
    """The models of a registry on one device, by the key of a `Servable`.

    Loading and composing happen in a thread of their own, so that a new model does not hold up
    those that are being served.

    Args:
        cache_bytes: of networks kept ready, and as much again of the (memory-mapped) models that
            compositions are cut from.
    """

    def __init__(
        self, registry: Registry, *, forms: Forms, transfers: Transfers, cache_bytes: int, metrics: Metrics
    ) -> None:
        self._registry, self._forms, self._transfers, self._metrics = registry, forms, transfers, metrics
        self.cache: ByteCache[ReadyModel] = ByteCache(cache_bytes, lambda held: held.executable.size_bytes)
        self.sources: ByteCache[Model] = ByteCache(cache_bytes, _model_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        metrics.watch_cache(self.cache)

    async def get(self, servable: Servable) -> ReadyModel:
        """The servable, loaded or composed unless it is at hand.

        Raises:
            NotFound: when the model is no longer stored.
            StorageFailure: when it cannot be read.
        """
        return await self.cache.get(servable.key, lambda: self._made(servable))

    async def source(self, digest: str) -> Model:
        """A stored model.

        Raises:
            NotFound, StorageFailure: as for `get`.
        """
        return await self.sources.get(digest, lambda: self.aside(lambda: self._registry.model(digest)))

    async def aside(self, work: Callable[[], _Made]) -> _Made:
        """Do something in the thread that loads."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for what is being loaded, and end the thread."""
        self._thread.shutdown()

    async def _made(self, servable: Servable) -> ReadyModel:
        started = time.perf_counter()
        source = await self.source(servable.model)
        made = await self.aside(lambda: self._assembled(servable, source))
        self._metrics.made(composed=servable.recipe is not None, seconds=time.perf_counter() - started)
        return made

    def _assembled(self, servable: Servable, source: Model) -> ReadyModel:
        model, size = source, None
        if servable.recipe is not None:
            assert isinstance(source, ModularModel)
            model = compose(source, servable.labels, servable.recipe.threshold)
            size = composition_size(model, self._known_overlaps(servable))
        built = self._forms.executable(servable.model, source, model)
        return ReadyModel(built, OwnLane(built, self._transfers), size)

    def _known_overlaps(self, servable: Servable) -> dict[str, dict[str, float]] | None:
        """What the model's modules share at its own threshold, measured when it was decomposed."""
        manifest = self._registry.manifest(servable.model)
        measured = servable.recipe is not None and servable.recipe.threshold == manifest.threshold
        return (manifest.overlaps or None) if measured else None


def _model_bytes(model: Model) -> int:
    if isinstance(model, PatchedModel):
        return _model_bytes(model.weak) + _model_bytes(model.strong)
    counts = model.counts.counts.values() if isinstance(model, ModularModel) else ()
    return sum(tensor.nbytes for tensor in (*model.weights.values(), *counts))
