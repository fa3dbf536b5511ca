"""What it costs to answer many subsets of one model in one batch, and when a subset is better off on its own.

    python -m benchmarks.tenants --json FILE            # a figure is drawn beside the file
    python -m benchmarks.tenants --no-service           # without the requests over HTTP

Three measurements of ResNet18 with drawn modules (see `benchmarks.drawn`): a forward pass with and
without a mask per sample; a batch of 32 with n images of one subset, all mixed or those n answered by
their composed model, and where the two cross; and a service asked for 1,000 different subsets. The first
two in processor time, which other work on the machine disturbs less than it does the clock.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.conditions import Report, conditions, parser, spread
from benchmarks.drawn import REPORTED, drawn_model
from benchmarks.tenants_service import Plan, tenants_lines
from moda_core.inference.crossing import ForwardLine, ForwardTimes, crossing_images
from moda_core.inference.executables import executable
from moda_core.inference.mixing import MixedModel, stacked, subset
from moda_core.modularity.composition import compose
from moda_core.modularity.measures import composition_size
from moda_core.modularity.models import ModularModel

__all__ = ["crossing_figure", "crossing_lines", "main", "masking_lines"]

BATCHES = (1, 8, 32)
SIZES = (1, 2, 4, 8, 16, 32)
OWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
FULL_BATCH = 32

Calls = Mapping[str, Callable[[], object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = drawn_model(options.model, options.seed)
    line, flops_ratio, crossing = crossing_lines(model, options.classes, options.rounds, options.seed)
    tables = {
        "a mask per sample": masking_lines(model, options.rounds, options.seed),
        f"{FULL_BATCH} images, n of them for one subset": crossing,
    }
    summary = _crossing_summary(line, flops_ratio, crossing, tables["a mask per sample"])
    if options.service:
        tables["requests over HTTP"], found = _over_http(options)
        summary |= found
    report = Report(
        "tenants", conditions(model=options.model, rounds=options.rounds, seed=options.seed), tables, summary
    )
    report.show()
    if options.json:
        report.write(options.json)
        crossing_figure(line, flops_ratio, crossing).savefig(options.json.with_suffix(".svg"))
    return 0


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--model", choices=REPORTED, default="resnet18")
    options.add_argument("--classes", type=int, default=3, help="of each subset")
    options.add_argument("--rounds", type=int, default=9, help="of timing, and of loads over HTTP")
    options.add_argument("--seconds", type=float, default=5.0, help="of each load over HTTP")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--no-service", dest="service", action="store_false")
    return options


def masking_lines(model: ModularModel, rounds: int, seed: int) -> list[dict[str, Any]]:
    """The whole model beside itself with a mask per sample, in turn; different subsets of three classes."""
    full, mixed, draw = executable(model), MixedModel(model), random.Random(seed)
    chosen = [subset(model, draw.sample(model.labels, 3)) for _ in range(max(BATCHES))]
    pixels, masks = _pixels(model, max(BATCHES)), stacked(chosen)
    calls: dict[str, Callable[[], object]] = {}
    for batch in BATCHES:
        calls[f"full {batch}"] = lambda batch=batch: full(pixels[:batch])  # type: ignore[misc]
        calls[f"mixed {batch}"] = lambda batch=batch: mixed(pixels[:batch], masks[:batch])  # type: ignore[misc]
    times = _timed(calls, rounds, draw)
    making = _timed({"subset": lambda: subset(model, draw.sample(model.labels, 3))}, 50, draw)["subset"]
    return [_masking_line(times, batch, making, chosen[0].size_bytes) for batch in BATCHES]


def _masking_line(times: Mapping[str, list[float]], batch: int, making: list[float], size_bytes: int) -> dict[str, Any]:
    full, mixed = times[f"full {batch}"], times[f"mixed {batch}"]
    return {
        "batch": batch,
        "full ms": median(full),
        "mixed ms": median(mixed),
        "mixed / full": list(spread(one / other for one, other in zip(mixed, full, strict=True))),
        "a subset's mask, ms": median(making),
        "bytes": size_bytes,
    }


def crossing_lines(
    model: ModularModel, classes: int, rounds: int, seed: int
) -> tuple[ForwardLine, float, list[dict[str, Any]]]:
    """For n of 32 images: all mixed, or n by their own model and the rest mixed; measured and as the rule has it."""
    draw = random.Random(seed)
    composed = compose(model, draw.sample(model.labels, classes))
    size = composition_size(composed)
    times = _crossing_times(model, composed, rounds, draw)
    learned = ForwardTimes()
    for images in SIZES:
        learned = learned.observed(images, median(times[f"full {images}"]))
    line, flops_ratio = learned.line(), size.kept_flops / size.original_flops
    assert line is not None
    whole = median(times[f"mixed {FULL_BATCH}"])
    return line, flops_ratio, [_crossing_line(times, line, flops_ratio, whole, n) for n in OWN]


def _crossing_times(
    model: ModularModel, composed: ModularModel, rounds: int, draw: random.Random
) -> Mapping[str, list[float]]:
    full, mixed, own = executable(model), MixedModel(model), executable(composed)
    pixels = _pixels(model, FULL_BATCH)
    masks = stacked([subset(model, draw.sample(model.labels, 3)) for _ in range(FULL_BATCH)])
    calls: dict[str, Callable[[], object]] = {}
    for size in SIZES:
        calls[f"full {size}"] = lambda size=size: full(pixels[:size])  # type: ignore[misc]
    for n in OWN:
        calls[f"own {n}"] = lambda n=n: own(pixels[:n])  # type: ignore[misc]
    for n in {FULL_BATCH, *(FULL_BATCH - n for n in OWN if n < FULL_BATCH)}:
        calls[f"mixed {n}"] = lambda n=n: mixed(pixels[:n], masks[:n])  # type: ignore[misc]
    return _timed(calls, rounds, draw)


def _crossing_line(
    times: Mapping[str, list[float]], line: ForwardLine, flops_ratio: float, whole: float, n: int
) -> dict[str, Any]:
    own = median(times[f"own {n}"])
    rest = median(times[f"mixed {FULL_BATCH - n}"]) if n < FULL_BATCH else 0.0
    predicted = line.turn_ms(n, flops_ratio)
    return {
        "n": n,
        "own ms": own,
        "own ms per image": own / n,
        "predicted": predicted,
        "the others mixed": rest,
        "together": own + rest,
        "all mixed": whole,
        "saved": whole - own - rest,
        "saving predicted": line.turn_ms(FULL_BATCH) - line.turn_ms(FULL_BATCH - n) - predicted,
    }


def _crossing_summary(
    line: ForwardLine, flops_ratio: float, crossing: Sequence[Mapping[str, Any]], masking: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """From which n on every larger one saves time, in what was measured and by the rule."""
    losing = [row["n"] for row in crossing if row["saved"] <= 0]
    after = [row["n"] for row in crossing if row["n"] > max(losing, default=0)]
    return {
        "a forward pass": f"{line.fixed_ms:.1f} ms + {line.image_ms:.1f} ms an image",
        "operations of the composed model": f"{flops_ratio:.1%}",
        "masks add": f"{masking[-1]['mixed / full'][0] - 1:.1%} at batch {masking[-1]['batch']}",
        "own model saves time from n =": after[0] if after else None,
        "the rule's n": crossing_images(line, flops_ratio),
    }


def crossing_figure(line: ForwardLine, flops_ratio: float, crossing: Sequence[Mapping[str, Any]]) -> Figure:
    """Time per image of a subset, on its own and in the mixed batch, over its images in a batch of 32."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    counts = [row["n"] for row in crossing]
    left = [(row["all mixed"] - row["the others mixed"]) / row["n"] for row in crossing]
    axes.plot(counts, [row["own ms per image"] for row in crossing], "o-", label="own model, measured")
    axes.plot(counts, [row["predicted"] / row["n"] for row in crossing], "--", label="own model, by the rule")
    axes.plot(counts, left, "s-", label="in the mixed batch: what leaving it saves")
    crossing_at = crossing_images(line, flops_ratio)
    if crossing_at < FULL_BATCH:
        axes.axvline(crossing_at, color="0.6", linewidth=1, label="crossing, by the rule")
    axes.set(xlabel=f"images of one subset in a batch of {FULL_BATCH}", ylabel="ms per image", ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, labels=map(str, SIZES))
    axes.legend(frameon=False)
    return figure


def _over_http(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Of 20 classes, since ten have only 120 subsets of three."""
    plan = Plan(classes=options.classes, rounds=options.rounds, seconds=options.seconds, seed=options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        return tenants_lines(drawn_model(options.model, options.seed, classes=20), plan, Path(scratch))


def _pixels(model: ModularModel, count: int) -> torch.Tensor:
    rule = model.input
    return torch.randint(0, 256, (count, rule.channels, rule.image_size, rule.image_size)).to(torch.uint8)


def _timed(calls: Calls, rounds: int, draw: random.Random) -> Mapping[str, list[float]]:
    """Milliseconds of the processor for each call, one per round, in an order of its own in each; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in draw.sample(list(calls), len(calls)):
            began = process_time()
            calls[name]()
            if turn:
                times[name].append(1e3 * (process_time() - began))
    return times


if __name__ == "__main__":
    sys.exit(main())
