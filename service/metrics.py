"""The service's counters for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

__all__ = ["STAGES", "Metrics", "side_by_side"]

STAGES = ("decode", "queue", "forward", "encode")
"""What a prediction's time is spent on, in order."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class _Cache(Protocol):
    """What is read of a cache when Prometheus asks."""

    hits: int
    misses: int
    evictions: int
    used_bytes: int

    def __len__(self) -> int: ...


class Metrics:
    """The counters of one service process. Labels have few values: no id and no digest is one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # under the names that every client library gives them
        self._requests = self._counter("http_requests", "Requests answered.", "method", "route", "status")
        self._duration = self._histogram(
            "http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            "method",
            "route",
        )
        images = self._counter(
            "images_predicted", "Images classified, by a model of their own or a mixed batch.", "lane"
        )
        self._images = {lane: images.labels(lane) for lane in ("own", "mixed")}
        stages = self._histogram("stage_seconds", "What the time of predictions was spent on.", "stage")
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self.batch_size = self._histogram("batch_size", "Images that shared a forward pass.", buckets=_IMAGES)
        self.queue_depth = self._gauge("queue_depth", "Images taken on and not yet answered.")
        self._rejected = self._counter("rejected", "Predictions that were not made.", "reason")
        made = self._histogram(
            "model_load_seconds", "From a model that is not in memory to one that can predict.", "kind"
        )
        self._made = {kind: made.labels(kind) for kind in ("stored", "composed", "mixed")}
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self.device_memory = self._gauge("device_memory_bytes", "Memory of the device that tensors hold; 0 on a CPU.")

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        key = method, route, status
        if key not in self._known:
            self._known[key] = self._requests.labels(*key), self._duration.labels(method, route)
        count, duration = self._known[key]
        count.inc()
        duration.observe(seconds)

    def answered(self, lane: str, images: int, **seconds: float) -> None:
        """Images have been classified, in a lane of their model's `own` or a `mixed` one; `seconds` by stage."""
        self._images[lane].inc(images)
        for stage, spent in seconds.items():
            self._stages[stage].observe(spent)

    def encoded(self, seconds: float) -> None:
        """An answer has been written down."""
        self._stages["encode"].observe(seconds)

    def rejected(self, reason: str) -> None:
        """A prediction was not made: `queue-full`, `loads-full`, `deadline`, `gone`."""
        self._rejected.labels(reason).inc()

    def made(self, kind: str, seconds: float) -> None:
        """A model has been made ready: `stored`, `composed`, or `mixed` (for many compositions at a time)."""
        self._made[kind].observe(seconds)

    def watch_caches(self, models: _Cache, sources: _Cache) -> None:
        """Report the caches of models, and of what they are composed of, as they are whenever Prometheus asks."""
        self._gauge("cached_models", "Models ready to predict.").set_function(lambda: len(models))
        self._gauge("cached_bytes", "Bytes that they hold.").set_function(lambda: models.used_bytes)
        self._gauge("cached_sources", "Stored models to compose from.").set_function(lambda: len(sources))
        self._gauge("cached_source_bytes", "Bytes of their mapped files.").set_function(lambda: sources.used_bytes)
        self.registry.register(_CacheCounts("model", models))
        self.registry.register(_CacheCounts("source", sources))

    def exposition(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"moda_{name}", says, labels, registry=self.registry)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(f"moda_{name}", says, registry=self.registry)

    def _histogram(self, name: str, says: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"moda_{name}", says, labels, buckets=buckets, registry=self.registry)


class _CacheCounts(Collector):
    """Counters that a cache keeps itself."""

    def __init__(self, what: str, cache: _Cache) -> None:
        self.what, self.cache = what, cache

    def collect(self) -> Any:
        """Each as Prometheus wants it."""
        for name in ("hits", "misses", "evictions"):
            says = f"{name.capitalize()} of the cache of {self.what}s."
            family = CounterMetricFamily(f"moda_{self.what}_cache_{name}", says)
            family.add_metric((), getattr(self.cache, name))
            yield family


def side_by_side(expositions: Mapping[int, bytes]) -> bytes:
    """The metrics of several processes in one text, each sample under its number as the label `process`.

    Line by line, because a parser takes ten milliseconds for a process, which predictions would notice.
    """
    families: dict[str, list[str]] = {}
    for number, exposition in sorted(expositions.items()):
        heading: list[str] = []
        for line in exposition.decode().splitlines():
            if line.startswith("# HELP "):
                heading = [line]
            elif line.startswith("#"):
                heading.append(line)
            else:
                name, brace, labels = line.partition("{")
                if not brace:
                    name, _, value = line.partition(" ")
                    labels = f"}} {value}"
                comma = "," if brace else ""
                families.setdefault("\n".join(heading), []).append(f'{name}{{process="{number}"{comma}{labels}')
    return "".join(f"{line}\n" for heading, samples in families.items() for line in (heading, *samples)).encode()
