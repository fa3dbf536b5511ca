"""The proof of slicing: sliced networks give the masked networks' logits, and wrong ones are caught.

    python -m benchmarks.exactness                                   # random weights and masks
    python -m benchmarks.exactness --model FILE --data cifar10.npz   # a trained modular model

Exits with 1 if a bound is not kept, a mutant is not caught, or an answer differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.conditions import Report, conditions, parser
from benchmarks.mutants import MUTATIONS, mutant_errors
from benchmarks.proof import (
    LEAST_VARIATION,
    MOST_DRAWS,
    MOST_ERROR,
    MOST_FLOAT32_RATIO,
    Case,
    NotAlive,
    agreement,
    draw_case,
)
from benchmarks.trained import compare_trained
from moda_core.architectures.catalogue import build, complete
from moda_core.specs import ArchitectureSpec
from moda_core.structure.unitgraph import UnitGraph, unit_graph

__all__ = ["ARCHITECTURES", "KEEPS", "case_of", "main", "mutants_row", "row"]

CLASSES = 10
KEEPS = (0.05, 0.2, 0.6)
ARCHITECTURES: dict[str, int] = {
    "vgg16": 32, "resnet18": 32, "mobilenet": 32, "lenet5": 32, "cnn": 16, "cnn-gelu": 16, "vit": 32,
    "torchvision/alexnet": 64, "torchvision/resnet18": 64, "torchvision/resnet50": 64,
    "torchvision/resnext50_32x4d": 64, "torchvision/wide_resnet50_2": 64, "torchvision/regnet_y_400mf": 64,
    "torchvision/regnet_x_400mf": 64, "torchvision/densenet121": 64, "torchvision/densenet169": 64,
    "torchvision/mobilenet_v2": 64, "torchvision/mobilenet_v3_small": 64, "torchvision/mobilenet_v3_large": 64,
    "torchvision/efficientnet_b0": 64, "torchvision/efficientnet_b1": 64, "torchvision/efficientnet_v2_s": 64,
    "torchvision/shufflenet_v2_x0_5": 64, "torchvision/shufflenet_v2_x1_0": 64, "torchvision/googlenet": 64,
    "torchvision/inception_v3": 96, "torchvision/squeezenet1_0": 64, "torchvision/squeezenet1_1": 64,
    "torchvision/convnext_tiny": 64, "torchvision/mnasnet0_5": 64, "torchvision/mnasnet1_0": 64,
    "torchvision/vit_b_16": 64, "torchvision/swin_t": 64, "torchvision/swin_v2_t": 64,
}  # fmt: skip
"""The networks of the proof, and the pixels per side at which they run."""

MUTATED = ("cnn", "cnn-gelu", "vit", "resnet18", "mobilenet", "torchvision/resnet50", "torchvision/densenet121",
           "torchvision/mobilenet_v2", "torchvision/efficientnet_b0", "torchvision/regnet_y_400mf")  # fmt: skip


def case_of(name: str, keep: float, *, seed: int = 0, batch: int = 8, most: int = MOST_DRAWS) -> Case:
    """A living case of a network by name.

    Raises:
        NotAlive: when no draw gives one.
    """
    spec = complete(name, classes=CLASSES, channels=3, image_size=ARCHITECTURES[name])
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, spec.image_size, spec.image_size, generator=generator)
    draws = iter(range(seed, seed + most))
    return draw_case(lambda: _fresh(spec, next(draws)), keep, images, generator, most=most)


def row(name: str, keep: float, *, seed: int = 0) -> dict[str, Any]:
    """One line of the proof."""
    line: dict[str, Any] = {"architecture": name, "keep": f"{keep:.0%}"}
    try:
        case = case_of(name, keep, seed=seed)
    except NotAlive as error:
        return line | dict.fromkeys(_MEASURES) | {"holds": f"NO: {error}"}
    found = agreement(case)
    measured = (
        f"{found.kept:.1%}", found.float64, found.float32, found.masked_float32, found.float32 / found.masked_float32,
        found.expansions, found.slicing_ms, case.redraws,
    )  # fmt: skip
    return line | dict(zip(_MEASURES, measured, strict=True)) | {"holds": "yes" if found.holds else "NO"}


_MEASURES = (
    "elements kept", "float64 error", "float32 error", "masked float32 error", "ratio", "expansions", "slice ms",
    "redraws",
)  # fmt: skip


def mutants_row(name: str, keep: float, *, seed: int = 0) -> dict[str, Any]:
    """Mutants caught of mutants made, per mutation, and the least error among them."""
    case = case_of(name, keep, seed=seed)
    line: dict[str, Any] = {"architecture": name, "keep": f"{keep:.0%}"}
    least = float("inf")
    for mutation in MUTATIONS:
        errors = mutant_errors(case, mutation)
        caught = sum(not error <= MOST_ERROR for error in errors)
        line[mutation] = f"{caught}/{len(errors)}" if errors else "none to make"
        least = min([least, *errors])
    return line | {"least error": least}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.model:
        tables = {"sliced against masked, trained": compare_trained(options.model, options.data, options.limit)}
    else:
        names = options.only or list(ARCHITECTURES)
        tables = {"sliced against masked": _proof(names, options.seed), "mutants": _mutants(options.only, options.seed)}
    report = Report(
        "exactness", _conditions(options), tables, {"holds": not _failures(tables), "failures": _failures(tables)}
    )
    report.show()
    if options.json:
        report.write(options.json)
    return 1 if _failures(tables) else 0


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", choices=ARCHITECTURES, metavar="NAME", help="these architectures only")
    options.add_argument("--model", type=Path, metavar="FILE", help="an artifact of a modular model")
    options.add_argument(
        "--data", metavar="SOURCE", help="its data set, as `moda dataset add` takes it; the test images are used"
    )
    options.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    return options


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    rule = f"variation >= {LEAST_VARIATION}, at most {MOST_DRAWS} draws"
    bounds = f"float64 <= {MOST_ERROR:g}, float32 <= {MOST_FLOAT32_RATIO:g}x masked"
    return conditions(seed=options.seed, repeats=1, rule=rule, bounds=bounds)


def _fresh(spec: ArchitectureSpec, seed: int) -> tuple[UnitGraph, torch.nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return unit_graph(spec), build(spec)


def _proof(names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    return [_told(row(name, keep, seed=seed)) for name in names for keep in KEEPS]


def _mutants(only: Sequence[str] | None, seed: int) -> list[dict[str, Any]]:
    names = [name for name in MUTATED if only is None or name in only]
    return [_told(mutants_row(name, keep, seed=seed)) for name in names for keep in KEEPS[1:]]


def _told(line: dict[str, Any]) -> dict[str, Any]:
    Console(stderr=True).print(f"{line['architecture']} {line['keep']} {line.get('holds', '')}", highlight=False)
    return line


def _failures(tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What does not hold: a bound, or a mutant that was not caught."""
    lines = [line for rows in tables.values() for line in rows]
    unkept = [line for line in lines if str(line.get("holds", "yes")) != "yes"]
    uncaught = [line for line in lines if any(_uncaught(str(line.get(mutation, ""))) for mutation in MUTATIONS)]
    return [" ".join(str(value) for value in line.values()) for line in [*unkept, *uncaught]]


def _uncaught(cell: str) -> bool:
    caught, _, made = cell.partition("/")
    return bool(made) and caught != made


if __name__ == "__main__":
    sys.exit(main())
