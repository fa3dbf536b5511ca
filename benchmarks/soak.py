"""Many requests over more subsets than fit the cache, then loads and unloads: does memory stay where it is?

    python -m benchmarks.soak --json FILE     # 100,000 requests, 300 subsets, a cache of 50 models: some minutes
    python -m benchmarks.soak --requests 3000 --subsets 60 --cache-models 10 --loads 100

One process of the service; a modular CNN of ten classes. Every subset is composed once. Then some are asked for more
often than others: a tenth of the requests compose one, anew when it was evicted, the rest predict: three in four by
its id, one by model and classes. What was evicted and is only predicted with shares the whole model's batches.
Memory is read at equal intervals. Its slope is a least-squares line over the last half, with two standard errors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.conditions import Report, conditions, parser
from benchmarks.endurance.connections import Connection, request
from benchmarks.endurance.loads import Tally, closed_loop
from benchmarks.endurance.samples import Sampler
from benchmarks.endurance.service import Service, metric, served
from benchmarks.endurance.subsets import MODEL, PICTURE, Subset, drawn_subsets, popular, publish, room_for
from benchmarks.serving.ourselves import chosen_form

__all__ = ["TOLERATED", "Phase", "Plan", "Soaked", "main", "requests_of", "soak"]

TOLERATED = {"requests": 100.0, "loads": 1000.0}
"""Bytes of memory that each request, and each load with its unload, may take for good: 1 MB per 10,000 and 1,000."""

_WEIGHTS = (10, 68, 22)
"""Of requests that compose, predict by id, and predict by classes."""
_CONNECTIONS = 8
_COUNTED = {
    "hits": "moda_model_cache_hits_total",
    "misses": "moda_model_cache_misses_total",
    "evictions": "moda_model_cache_evictions_total",
    "composed": 'moda_model_load_seconds_count{kind="composed"}',
    "predicted by own models": 'moda_images_predicted_total{lane="own"}',
    "in mixed batches": 'moda_images_predicted_total{lane="mixed"}',
}

_CLOSING_S = 0.5
"""For so long the service may take to close the connections that its callers have closed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and over how much.

    Attributes:
        cache_models: composed models for which the service's cache has room.
        loads: through the repository extension, each followed by its unload.
    """

    requests: int = 100_000
    subsets: int = 300
    cache_models: int = 50
    loads: int = 1000
    interval_s: float = 0.5
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Phase:
    """What one kind of work did to the service."""

    name: str
    tally: Tally
    samples: Sampler

    @property
    def row(self) -> dict[str, Any]:
        """Of the table."""
        first, last = self.samples.samples[0], self.samples.samples[-1]
        resident, anonymous = (self.samples.growth(what) for what in ("resident", "anonymous"))
        flat = not any(one.grows(TOLERATED[self.name]) for one in (resident, anonymous))
        return {
            "what": f"{self.tally.done:,} {self.name}",
            "errors": self.tally.done - self.tally.statuses[200],
            "per second": self.tally.rate,
            "p50 ms": self.tally.quantile_ms(50),
            "p99 ms": self.tally.quantile_ms(99),
            "memory MB": [first.resident / 1e6, last.resident / 1e6],
            "slope bytes each": f"{resident.slope:.0f} ± {2 * resident.error:.0f}",
            "slope of heap": f"{anonymous.slope:.0f} ± {2 * anonymous.error:.0f}",
            "tolerated": TOLERATED[self.name],
            "memory": "flat" if flat else "grows",
            "files": [first.files, last.files],
            "threads": [first.threads, last.threads],
            "samples": len(self.samples.samples),
        }


@dataclass(frozen=True)
class Soaked:
    """The phases, what the cache counted during the first, and how many models it held after it."""

    phases: list[Phase]
    cache: dict[str, int]

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """For the report, with every look at the process."""
        looks = {f"samples of {one.name}": [vars(look) for look in one.samples.samples] for one in self.phases}
        return {"soak": [one.row for one in self.phases], "cache": [self.cache], **looks}


def soak(plan: Plan) -> Soaked:
    """Start a service, let it work, and see what it holds."""
    with tempfile.TemporaryDirectory(prefix="moda-soak-") as folder:
        home = Path(folder)
        model = publish(home, plan.seed)
        subsets = drawn_subsets(model.labels, plan.subsets, plan.seed)
        cache_bytes = room_for(plan.cache_models, model, subsets)
        with served(home, threads=plan.threads, settings={"MODA_CACHE_BYTES": str(cache_bytes)}) as service:
            found = asyncio.run(_worked(service, plan, subsets))
            service.look()
        return found


async def _worked(service: Service, plan: Plan, subsets: Sequence[Subset]) -> Soaked:
    ids = await _composed(service, subsets)
    await asyncio.to_thread(chosen_form, service.url, MODEL)  # models in another form are made anew then
    before = await asyncio.to_thread(service.metrics)
    requests = requests_of(plan, subsets, ids)
    asked = Phase("requests", *await _measured(service, requests, _CONNECTIONS, plan.interval_s))
    after = await asyncio.to_thread(service.metrics)
    names = [MODEL, *ids[:9]]
    loads = (one for number in range(plan.loads) for one in _load_and_unload(names[number % len(names)]))
    tally, samples = await _measured(service, loads, 1, plan.interval_s / 10)  # they take a tenth of the time
    cache = {name: round(metric(after, full) - metric(before, full)) for name, full in _COUNTED.items()}
    return Soaked(
        [asked, Phase("loads", tally, samples)], {**cache, "models": round(metric(after, "moda_cached_models"))}
    )


async def _measured(
    service: Service, requests: Iterator[bytes], connections: int, interval_s: float
) -> tuple[Tally, Sampler]:
    tally = Tally()
    async with Sampler(service.pid, lambda: tally.done, interval_s=interval_s) as samples:
        await closed_loop(service.port, requests, connections, tally)
        await asyncio.sleep(_CLOSING_S)
    return tally, samples


async def _composed(service: Service, subsets: Sequence[Subset]) -> list[str]:
    """The ids of the subsets' compositions, each made once.

    Raises:
        RuntimeError: with the service's answer, when one cannot be made.
    """
    connection, ids = await Connection.to(service.port), []
    for subset in subsets:
        answer = await connection.ask(_composing(subset))
        if answer.status != 200:
            raise RuntimeError(f"POST /compose answered {answer.status}: {answer.body.decode()}")
        ids.append(str(json.loads(answer.body)["id"]))
    connection.close()
    return ids


def requests_of(plan: Plan, subsets: Sequence[Subset], ids: Sequence[str]) -> Iterator[bytes]:
    """All requests: of the three kinds, and for subsets by their popularity."""
    composing = [_composing(one) for one in subsets]
    by_id = [_prediction({"model": one}) for one in ids]
    by_classes = [_prediction({"model": MODEL, "classes": list(one)}) for one in subsets]
    kinds = random.Random(f"kinds {plan.seed}").choices((composing, by_id, by_classes), _WEIGHTS, k=plan.requests)
    for kind, place in zip(kinds, popular(plan.subsets, plan.requests, plan.seed), strict=True):
        yield kind[place]


def _composing(subset: Subset) -> bytes:
    body = json.dumps({"model": MODEL, "classes": subset}).encode()
    return request("POST", "/compose", body=body)


def _prediction(query: dict[str, str | list[str]]) -> bytes:
    return request("POST", "/predict", query=query, body=PICTURE, content_type="image/png")


def _load_and_unload(name: str) -> Iterator[bytes]:
    for what in ("load", "unload"):
        yield request("POST", f"/v2/repository/models/{name}/{what}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status: 1 for an error or memory that grows."""
    options = _parser().parse_args(arguments)
    names = ("requests", "subsets", "cache_models", "loads", "interval_s", "threads", "seed")
    plan = Plan(**{name: getattr(options, name) for name in names})
    known = conditions(**vars(plan))
    found = soak(plan)
    rows = found.tables["soak"]
    Report("soak", known, {"soak": rows, "cache": [found.cache]}, {}).show()
    if options.json:
        Report("soak", known, found.tables, {}).write(options.json)
    return int(any(row["errors"] or row["memory"] != "flat" for row in rows))


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.set_defaults(threads=1)
    whole = Plan()
    for name in ("requests", "subsets", "cache_models", "loads", "seed"):
        options.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(whole, name))
    options.add_argument("--interval-s", type=float, default=whole.interval_s, help="between two looks at memory")
    return options


if __name__ == "__main__":
    sys.exit(main())
