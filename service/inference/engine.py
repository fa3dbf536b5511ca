"""Predictions: models loaded or composed once, kept while they fit, and run one batch at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.modularity.composition import compose
from moda_core.modularity.measures import CompositionSize, composition_size
from moda_core.modularity.models import Model, ModularModel, PatchedModel
from moda_core.modularity.networks import Network, logits, network
from moda_core.storage.registry import Registry
from service.inference.cache import ByteCache
from service.inference.servables import Servable
from service.telemetry import Metrics

__all__ = ["Engine", "Executable", "Prediction"]


@dataclass(frozen=True)
class Executable:
    """A model on its device, ready to run.

    Attributes:
        size: what a composition keeps of its original; None for a stored model.
    """

    network: Network
    size: CompositionSize | None
    size_bytes: int


@dataclass(frozen=True)
class Prediction:
    """Logits of some images, on the CPU, one column per label."""

    labels: tuple[str, ...]
    logits: Float[Tensor, "images classes"]

    @property
    def probabilities(self) -> Float[Tensor, "images classes"]:
        """Their softmax."""
        return self.logits.softmax(1)


class Engine:
    """Runs servables on one device.

    One thread owns the device's forward passes. Loading and composing happen in another, so that a
    new model does not hold up those that are being served.

    Args:
        device: ``cpu`` or a CUDA device.
        cache_bytes: of networks kept ready, and as much again of the (memory-mapped) models that
            compositions are cut from.
    """

    def __init__(self, registry: Registry, *, device: str, cache_bytes: int, metrics: Metrics) -> None:
        self.device, self._registry, self._metrics = device, registry, metrics
        self._executables: ByteCache[Executable] = ByteCache(cache_bytes, lambda held: held.size_bytes)
        self._sources: ByteCache[Model] = ByteCache(cache_bytes, _model_bytes)
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load")

    async def ready(self, servable: Servable) -> Executable:
        """The servable, loaded or composed unless it is at hand.

        Raises:
            NotFound: when the model is no longer stored.
            StorageFailure: when it cannot be read.
        """
        executable = await self._executables.get(servable.key, lambda: self._made(servable))
        self._metrics.cached_models.set(len(self._executables))
        self._metrics.cached_bytes.set(self._executables.used_bytes)
        return executable

    async def predict(self, servable: Servable, images: Sequence[UInt8[Tensor, "channels height width"]]) -> Prediction:
        """Logits of decoded images of any size, with one column per label of the servable."""
        executable = await self.ready(servable)
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._forward, self._run, executable.network, images)
        self._metrics.images.inc(len(images))
        return Prediction(tuple(executable.network.labels), answer)

    def pin(self, servable: Servable) -> None:
        """Keep the servable in memory once it is ready, until `unpin`; it need not be there yet."""
        self._executables.pin(servable.key)

    def unpin(self, servable: Servable) -> None:
        """Let the servable make room for others again."""
        self._executables.unpin(servable.key)

    def drop(self, servable: Servable) -> None:
        """Forget the servable now; what runs on it finishes."""
        self._executables.drop(servable.key)

    def close(self) -> None:
        """Wait for what is running, and end the threads."""
        self._loading.shutdown()
        self._forward.shutdown()

    async def _made(self, servable: Servable) -> Executable:
        loop, started = asyncio.get_running_loop(), time.perf_counter()
        source = await self._sources.get(servable.model, lambda: self._loaded(servable.model))
        executable = await loop.run_in_executor(self._loading, self._assembled, servable, source)
        self._metrics.loads.observe(time.perf_counter() - started)
        return executable

    async def _loaded(self, digest: str) -> Model:
        return await asyncio.get_running_loop().run_in_executor(self._loading, self._registry.model, digest)

    def _assembled(self, servable: Servable, source: Model) -> Executable:
        size = None
        if servable.recipe is not None:
            assert isinstance(source, ModularModel)
            source = compose(source, servable.labels, servable.recipe.threshold)
            size = composition_size(source, self._known_overlaps(servable))
        assembled = network(source, self.device)
        return Executable(assembled, size, _network_bytes(assembled))

    def _known_overlaps(self, servable: Servable) -> dict[str, dict[str, float]] | None:
        """What the model's modules share at its own threshold, measured when it was decomposed."""
        manifest = self._registry.manifest(servable.model)
        measured = servable.recipe is not None and servable.recipe.threshold == manifest.threshold
        return (manifest.overlaps or None) if measured else None

    def _run(self, assembled: Network, images: Sequence[Any]) -> Float[Tensor, "images classes"]:
        started = time.perf_counter()
        answer = logits(assembled, images)
        self._metrics.inference.observe(time.perf_counter() - started)
        return answer


def _network_bytes(assembled: Network) -> int:
    return sum(tensor.nbytes for tensor in (*assembled.parameters(), *assembled.buffers()))


def _model_bytes(model: Model) -> int:
    if isinstance(model, PatchedModel):
        return _model_bytes(model.weak) + _model_bytes(model.strong)
    counts = model.counts.counts.values() if isinstance(model, ModularModel) else ()
    return sum(tensor.nbytes for tensor in (*model.weights.values(), *counts))
