"""Beyond ReLU and convolutions, on digits: what epsilon does to a GELU network and to a vision transformer.

    python -m experiments.beyond_relu
    python -m experiments.beyond_relu --models vit --seeds 3 --epsilons 0.1,0.2

GELU and attention are never exactly zero, so a unit (a head: any number of its slice) is inactive for an
image only where it stays within epsilon. One training per seed, with and without the modular objective;
then at each epsilon counted, decomposed and composed anew. Rows, in one file per model (and number of epochs, where it is given):

``kind: training``: ``approach`` (ST, MODA), ``seed``, ``spec`` and ``model`` (digests), the recipe, test ``accuracy``, ``parameters``.
``kind: reuse``: one per composition: ``approach`` (ST-composed, MODA), ``seed``, ``spec``, ``model``, ``epsilon``, ``threshold``,
``classes``, ``accuracy``, ``whole`` (the uncut model within the same classes), ``kept_…`` and ``original_parameters``,
``…_flops``, and ``error`` of the sliced against the masked model in float64, in units of the logits' spread.
``kind: epsilon``: the same summed over compositions, with module ``size``, ``overlap`` and the share of each layer's
units that a class's module has (``layers``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evidence.summaries import share
from experiments.figures.beyond_relu import draw
from experiments.records.result_file import ResultFile
from experiments.reuse.epsilons import COMPOSED, Sweep
from experiments.setup.datasets import DIGITS
from experiments.setup.options import add_surroundings, check_positive, surroundings_of
from experiments.setup.program import run as run_program
from experiments.setup.setting import Setting
from moda_core.errors import InvalidInput

__all__ = ["main", "result_path"]

_RECIPES: dict[str, dict[str, Any]] = {
    "cnn-gelu": {"width": 0.5, "epochs": 40, "batch_size": 64},
    "vit": {"width": 0.5, "epochs": 60, "batch_size": 32},
}
_SMALL = {"image_size": 8, "crop_padding": 1}
"""Digits are 8x8 images, and few: no upscaling, a shift by one pixel at most."""
_EPSILONS = "0.001,0.01,0.05,0.1,0.17,0.3,0.5,1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what was not trained, decompose and compose at every epsilon, draw."""
    options = _parser().parse_args(arguments)
    check_positive(options, "epochs")
    epsilons = _numbers(options.epsilons)
    settings = {model: _setting(options, model) for model in options.models}
    for model, setting in settings.items():
        file = ResultFile(result_path(setting.results, model, options.epochs))
        file.begin(setting.invocation())
        recipe = _SMALL | {"batch_size": _RECIPES[model]["batch_size"]}
        for seed in setting.seeds:
            for approach in COMPOSED:
                Sweep(setting, file, approach, seed, recipe).measure(epsilons)
        _show(model, file)
    files = {model: ResultFile(result_path(options.results, model, options.epochs)) for model in _RECIPES}
    draw(options.results, {model: file.measured() for model, file in files.items()}, options.epochs)


def result_path(results: Path, model: str, epochs: int | None = None) -> Path:
    """The result file of a model, trained as long as its recipe says or for so many epochs."""
    return results / f"beyond-relu-{DIGITS}-{model}{'' if epochs is None else f'-e{epochs}'}.jsonl"


def _show(model: str, file: ResultFile) -> None:
    """A line per training and epsilon."""
    for row in file.measured():
        about = f"{model}  {row['approach']:<11} seed {row['seed']}"
        if row["kind"] == "training":
            print(f"{about}  test accuracy {share(row['accuracy']):.2%} of {row['parameters']} parameters")
        if row["kind"] == "epsilon":
            layers = " ".join(f"{layer:.0%}" for layer in row["layers"].values())
            print(
                f"{about}  epsilon {row['epsilon']:<5g}  reuse {share(row['accuracy']):.2%} (whole {share(row['whole']):.2%})"
                f"  kept {row['kept']:.1%}  module {row['size']:.1%}  layers {layers}  error {row['error']:.1e}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.beyond_relu", description="GELU and attention")
    add = parser.add_argument
    add("--models", nargs="+", choices=_RECIPES, default=list(_RECIPES), help="(default: both)")
    add("--epochs", type=int, default=None, metavar="N", help="of training (default: as each model needs)")
    add("--epsilons", default=_EPSILONS, metavar="LIST", help=f"(default: {_EPSILONS})")
    add_surroundings(parser)
    return parser


def _setting(options: argparse.Namespace, model: str) -> Setting:
    recipe = _RECIPES[model]
    return Setting(
        name=DIGITS,
        source=None,
        model=model,
        width=recipe["width"],
        epochs=options.epochs or recipe["epochs"],
        **surroundings_of(options),
    )


def _numbers(listed: str) -> list[float]:
    try:
        return [float(number) for number in listed.split(",")]
    except ValueError as error:
        raise InvalidInput("--epsilons", listed, "not a list of numbers", f"give some as in {_EPSILONS}") from error


if __name__ == "__main__":
    run_program(main)
