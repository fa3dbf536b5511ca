"""How long it takes from counts and weights to a composed model that is ready to answer.

    python -m benchmarks.compose                          # counts that only look like trained modules
    python -m benchmarks.compose --resnet18 FILE --vgg16 FILE   # artifacts of trained modular models
    python -m benchmarks.compose --url http://127.0.0.1:8000 --model NAME   # through the service

Weights lie in the page cache, mapped from a safetensors file; the traced graph is cached, and the
first line of each network tells what it costs when it is not. Beside each time stands that of
copying the kept bytes, which no composition can go below.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from io import StringIO
from itertools import combinations
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import httpx
import torch
from torch import Tensor

from benchmarks.conditions import Report, conditions, parser, spread
from moda_core.architectures.catalogue import build, complete
from moda_core.modularity.composition import check_composable, compose
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.modularity.networks import network
from moda_core.specs import InputSpec
from moda_core.storage.artifacts import decode, encode
from moda_core.structure.slicing import forget_plans
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["counts_like_trained", "counts_of_random_modules", "main", "modular_model"]

GOALS_MS = {"resnet18": 10.0, "vgg16": 30.0}
SUBSETS = (1, 3, 5)
_SAMPLES = 1000
_LABELS = tuple(f"class {index}" for index in range(10))


def counts_like_trained(graph: UnitGraph, generator: torch.Generator) -> ActivationCounts:
    """Counts whose modules keep most of the first layers' units and few of the last ones'.

    A class's share falls from 80 % to 8 % with depth; half of it is common to all classes.
    """
    layers = graph.layers
    shares = {layer.name: 0.8 * 0.1 ** (place / max(len(layers) - 1, 1)) for place, layer in enumerate(layers)}
    return _counts(graph, shares, 0.5, generator)


def counts_of_random_modules(graph: UnitGraph, generator: torch.Generator, *, common: float) -> ActivationCounts:
    """Counts whose modules hold a random 30 % of each layer's units, of which a share is `common` to all classes."""
    return _counts(graph, dict.fromkeys((layer.name for layer in graph.layers), 0.3), common, generator)


def modular_model(
    name: str, count: Callable[[UnitGraph, torch.Generator], ActivationCounts], seed: int
) -> ModularModel:
    """A network with random weights and made counts, at τ = 0.9."""
    architecture = complete(name, classes=len(_LABELS), channels=3, image_size=32)
    door = InputSpec(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    counts = count(unit_graph(architecture), torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = build(architecture).state_dict()
    return decomposed(TrainedModel(architecture, _LABELS, door, weights), counts, Decimal("0.9"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.url:
        lines = _over_http(options.url, options.model, options.repeats)
    else:
        lines = [line for name in options.only for line in _network_lines(name, options)]
    report = Report("compose", conditions(repeats=options.repeats, seed=options.seed), {"compose to ready": lines}, {})
    report.show()
    if options.json:
        report.write(options.json)
    if options.profile and not options.url:
        print(_profile(options))
    return 0


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--repeats", type=int, default=21)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=GOALS_MS, default=list(GOALS_MS), help="these networks only")
    for name in GOALS_MS:
        options.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"artifact of a modular {name}")
    options.add_argument("--url", help="of a running service: POST /compose is timed instead")
    options.add_argument("--model", help="with --url: the model's reference there")
    options.add_argument("--profile", action="store_true", help="also print where the time goes")
    return options


def _network_lines(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    artifact = getattr(options, name)
    trained = (str(artifact.name), check_composable(decode(artifact))) if artifact else None
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, tuple[ModularModel, float]] = {}
        goal = GOALS_MS[name]
        if trained:
            sources[f"trained ({trained[0]})"] = trained[1], goal
        else:
            made = modular_model(name, counts_like_trained, options.seed)
            sources["made to look trained"] = _mapped(made, Path(folder) / "made"), goal
        for title, common in (("30 % random, one set", 1.0), ("30 % random, each its own", 0.0)):
            count = partial(counts_of_random_modules, common=common)
            drawn = modular_model(name, count, options.seed)
            sources[title] = _mapped(drawn, Path(folder) / f"random{common}"), 2 * goal
        for title, (model, most) in sources.items():
            lines += [_line(name, title, model, classes, most, options) for classes in SUBSETS]
    return lines


def _mapped(model: ModularModel, path: Path) -> ModularModel:
    """The model as read back from a file: its tensors are mapped, and their pages touched once."""
    path.write_bytes(encode(model))
    back = check_composable(decode(path))
    for weight in back.weights.values():
        weight.sum()
    return back


def _line(
    name: str, title: str, model: ModularModel, classes: int, goal: float, options: argparse.Namespace
) -> dict[str, Any]:
    drawn = random.Random(options.seed).sample(model.labels, classes)
    ready = network(compose(model, drawn))
    kept = list(ready.parameters())
    size_bytes = sum(parameter.nbytes for parameter in kept)
    source, target = torch.ones(size_bytes // 4), torch.empty(size_bytes // 4)
    composing, copying, processor = [], [], []
    for _ in range(options.repeats):
        forget_plans()
        began = process_time()
        composing.append(_timed(lambda: network(compose(model, drawn))))
        processor.append(1e3 * (process_time() - began))
        copying.append(_timed(lambda: target.copy_(source)))
    median, least, most = spread(composing)
    return {
        "network": name,
        "modules": title,
        "classes": classes,
        "elements kept": f"{sum(parameter.numel() for parameter in kept) / unit_graph(model.architecture).parameters:.1%}",
        "compose ms": median,
        "least": least,
        "most": most,
        "processor ms": spread(processor)[0],
        "copy ms": spread(copying)[0],
        "cold ms": _cold(model, drawn),
        "goal ms": goal,
        "reached": "yes" if median <= goal else "no",
    }


def _cold(model: ModularModel, classes: Sequence[str]) -> float:
    """The first composition of a process that has never traced this network (imports not counted)."""
    unit_graph.cache_clear()
    return _timed(lambda: network(compose(model, classes)))


def _over_http(url: str, model: str, repeats: int) -> list[dict[str, Any]]:
    """Every request asks for other classes, so that a freshly started service composes each time."""
    lines = []
    with httpx.Client(base_url=url, timeout=60) as client:
        labels = client.get(f"/models/{model}").raise_for_status().json()["classes"]
        for classes in SUBSETS:
            times, inside = [], []
            subsets = list(combinations(labels, classes))
            for subset in random.Random(classes).sample(subsets, min(repeats, len(subsets))):
                body = {"model": model, "classes": subset}
                began = perf_counter()
                answer = client.post("/compose", json=body).raise_for_status().json()
                times.append(1e3 * (perf_counter() - began))
                inside.append(answer["compose_ms"])
            median, least, most = spread(times)
            lines.append(
                {"model": model, "classes": classes, "requests": len(times), "round trip ms": median, "least": least, "most": most,
                 "compose_ms": spread(inside)[0]}
            )  # fmt: skip
    return lines


def _counts(graph: UnitGraph, shares: dict[str, float], common: float, generator: torch.Generator) -> ActivationCounts:
    """Counts at which modules hold shares of the layers, a part of each being common to all classes."""
    counts: dict[str, Tensor] = {}
    for layer in graph.layers:
        wanted = max(1, round(shares[layer.name] * layer.units))
        shared = torch.randperm(layer.units, generator=generator)[: round(common * wanted)]
        count = torch.zeros(len(_LABELS), layer.units, dtype=torch.int32)
        for row in count:
            own = torch.randperm(layer.units, generator=generator)
            own = own[~torch.isin(own, shared)][: wanted - len(shared)]
            row[torch.cat([shared, own])] = _SAMPLES
        counts[layer.name] = count
    units = {layer.name: torch.arange(layer.units) for layer in graph.layers}
    return ActivationCounts(counts=counts, units=units, samples=(_SAMPLES,) * len(_LABELS))


def _timed(run: Callable[[], object]) -> float:
    began = perf_counter()
    run()
    return 1e3 * (perf_counter() - began)


def _profile(options: argparse.Namespace) -> str:
    model = modular_model(options.only[0], counts_like_trained, options.seed)
    network(compose(model, _LABELS[:3]))
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(10):
        forget_plans()
        network(compose(model, _LABELS[:3]))
    profile.disable()
    text = StringIO()
    pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(28)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
