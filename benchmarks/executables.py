"""How many images a second the whole model answers, and the models composed of a few of its classes.

    python -m benchmarks.executables --model resnet18
    python -m benchmarks.executables --model-file FILE     # an artifact of a trained modular model

Without a file the modules are *drawn*, with the mean size and overlap that the paper reports for the
network (see `benchmarks.drawn`): they have the shape of trained modules, and no accuracy. In each round
every model answers every batch once, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.conditions import Report, conditions, parser
from benchmarks.drawn import REPORTED, drawn_model
from moda_core.errors import InvalidInput
from moda_core.inference.executables import FORMS, Executable, Form, executable
from moda_core.inference.forms import candidates
from moda_core.modularity.composition import check_composable, compose
from moda_core.modularity.measures import composition_size, module_measures
from moda_core.modularity.models import ModularModel
from moda_core.storage.artifacts import decode

__all__ = ["main"]

BATCHES = (1, 8, 32)
GOAL_CLASSES, GOAL_SPEED_UP = 3, 2.0
_FULL_PLAIN = "all classes, plain"

Times = Mapping[tuple[str, int], list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, masks = _model(options)
    asked, sizes = _executables(model, options)
    times = _timed(asked, model, options.rounds)
    lines = [line for batch in BATCHES for line in _lines(asked, sizes, times, batch)]
    measures = module_measures(model)
    summary = {
        "masks": masks,
        "mean module size": f"{measures.mean_size:.1%}",
        "mean overlap": f"{measures.mean_overlap:.1%}",
        **_goal(lines),
    }
    report = Report(
        "executables", conditions(rounds=options.rounds, seed=options.seed), {model.architecture.name: lines}, summary
    )
    report.show()
    if options.json:
        report.write(options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--model", choices=REPORTED, default="resnet18", help="a network with drawn modules")
    options.add_argument("--model-file", type=Path, metavar="FILE", help="artifact of a modular model")
    options.add_argument("--classes", type=int, nargs="+", default=[1, 2, 3, 5, 10], help="of composed models")
    options.add_argument(
        "--forms",
        nargs="+",
        default=[form for form in candidates("cpu") if form != "plain"],
        choices=[form for form in FORMS if form != "captured"],
    )
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seed", type=int, default=0)
    return options


def _model(options: argparse.Namespace) -> tuple[ModularModel, str]:
    if options.model_file:
        return check_composable(decode(options.model_file)), f"of {options.model_file.name}"
    size, overlap = REPORTED[options.model]
    return (
        drawn_model(options.model, options.seed),
        f"drawn, not trained; the paper reports {size:.1%} and {overlap:.1%} on CIFAR-10",
    )


def _executables(
    model: ModularModel, options: argparse.Namespace
) -> tuple[dict[str, Executable], dict[str, tuple[float, float]]]:
    """By name, what answers; and its shares of the original's parameters and operations."""
    forms: list[Form] = options.forms
    asked = {_FULL_PLAIN: executable(model, "plain")}
    for whole in [form for form in forms if form != "plain"]:
        try:
            asked[f"all classes, {whole}"] = executable(model, whole)
        except InvalidInput as error:  # some networks do not have some forms
            print(error, file=sys.stderr)
            forms.remove(whole)
    sizes = dict.fromkeys(asked, (1.0, 1.0))
    for count in options.classes:
        composed = compose(model, random.Random(options.seed).sample(model.labels, count))
        size = composition_size(composed)
        for form in forms:
            name = f"{count} composed, {form}"
            asked[name] = executable(composed, form)
            sizes[name] = (
                size.kept_parameters / size.original_parameters,
                size.kept_flops / size.original_flops,
            )
    return asked, sizes


def _timed(asked: Mapping[str, Executable], model: ModularModel, rounds: int) -> Times:
    """Seconds per call, by name and batch size; the first round is not counted."""
    rule = model.input
    times: dict[tuple[str, int], list[float]] = {}
    images = torch.randint(0, 256, (max(BATCHES), rule.channels, rule.image_size, rule.image_size))
    pixels: Tensor = images.to(torch.uint8)
    for turn in range(rounds + 1):
        for batch in BATCHES:
            for name, one in asked.items():
                began = perf_counter()
                one(pixels[:batch])
                if turn:
                    times.setdefault((name, batch), []).append(perf_counter() - began)
    return times


def _lines(
    asked: Mapping[str, Executable], sizes: Mapping[str, tuple[float, float]], times: Times, batch: int
) -> list[dict[str, Any]]:
    whole = statistics.median(times[_FULL_PLAIN, batch])
    lines = []
    for name in asked:
        lower, median, upper = statistics.quantiles(times[name, batch], n=4)
        parameters, flops = sizes[name]
        lines.append(
            {
                "model": name,
                "batch": batch,
                "images/s": batch / median,
                "quartiles": (batch / upper, batch / lower),
                "speed-up": whole / median,
                "1 / FLOPs": 1 / flops,
                "1 / parameters": 1 / parameters,
                "least ms": 1e3 * min(times[name, batch]),
            }
        )
    return lines


def _goal(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Whether a model of three classes, in its fastest form, is twice as fast as the whole one, at every batch size."""
    ours = [line for line in lines if line["model"].startswith(f"{GOAL_CLASSES} composed, ")]
    if not ours:
        return {}
    fastest = (max(line["speed-up"] for line in ours if line["batch"] == batch) for batch in BATCHES)
    verdict = "reached" if min(fastest) >= GOAL_SPEED_UP else "NOT reached"
    return {f"goal, {GOAL_CLASSES} classes {GOAL_SPEED_UP:g} times as fast": verdict}


if __name__ == "__main__":
    sys.exit(main())
