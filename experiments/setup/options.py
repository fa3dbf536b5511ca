"""What all experiments are asked on the command line: which model on which data set, how long, how often, where."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from experiments.setup.datasets import named
from experiments.setup.setting import RESULTS, Setting
from moda_core.architectures.catalogue import complete
from moda_core.errors import InvalidInput, Unavailable
from moda_core.training.execution import Execution

__all__ = [
    "add_approaches",
    "add_options",
    "add_surroundings",
    "approaches_of",
    "check_positive",
    "execution_of",
    "setting_of",
    "surroundings_of",
]

_WAYS = tuple(field.name for field in fields(Execution))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all programs share."""
    add = parser.add_argument
    add(
        "--dataset", required=True, metavar="[NAME=]PATH", help="an .npz file, named after itself by default; or digits"
    )
    add("--model", required=True, metavar="NAME", help="vgg16, resnet18, mobilenet, lenet5 or cnn")
    add(
        "--width",
        type=float,
        default=1.0,
        metavar="W",
        help="multiplier of the model's channels and units (default: 1)",
    )
    add("--epochs", type=int, default=200, metavar="N", help="of training (default: 200, as in the paper)")
    add_surroundings(parser)
    add("--execution", default="", metavar="LIST", help=f"of {', '.join(_WAYS)}, with commas between (default: none)")
    add("--images-per-class", type=int, default=None, metavar="N", help="test images for reuse (default: all)")


def add_surroundings(parser: argparse.ArgumentParser, seeds: int = 1) -> None:
    """Add what every program is asked: how often, and where."""
    add = parser.add_argument
    add("--seeds", type=int, default=seeds, metavar="N", help=f"train under the seeds 0 to N-1 (default: {seeds})")
    add("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    add("--threads", type=int, default=None, metavar="N", help="of torch on the CPU (default: torch's own)")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="trained models (default: runs)")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="result files (default: experiments/results)")


def setting_of(options: argparse.Namespace) -> Setting:
    """The setting of parsed options; it also sets torch's threads.

    Raises:
        InvalidInput, Unavailable: naming the option that cannot be used.
    """
    check_positive(options, "epochs", "images_per_class")
    name, source = named(options.dataset)
    complete(options.model, classes=2, channels=3, width=options.width)
    return Setting(
        name=name,
        source=source,
        model=options.model,
        width=options.width,
        epochs=options.epochs,
        images_per_class=options.images_per_class,
        execution=execution_of(options.execution),
        **surroundings_of(options),
    )


def surroundings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a setting that `add_surroundings` asks for; it also sets torch's threads.

    Raises:
        InvalidInput, Unavailable: naming the option that cannot be used.
    """
    check_positive(options, "seeds", "threads")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return {
        "seeds": tuple(range(options.seeds)),
        "device": _device(options.device),
        "runs": options.runs,
        "results": options.results,
    }


def add_approaches(parser: argparse.ArgumentParser, known: Sequence[str], default: Sequence[str]) -> None:
    """Add the option that chooses among a program's approaches."""
    says = f"of {', '.join(known)}, with commas between (default: {','.join(default)})"
    parser.add_argument("--approaches", default=",".join(default), metavar="LIST", help=says)


def approaches_of(options: argparse.Namespace, known: Sequence[str]) -> tuple[str, ...]:
    """The approaches asked for, each once.

    Raises:
        InvalidInput: for one that the program does not know.
    """
    asked = tuple(dict.fromkeys(name.strip() for name in options.approaches.split(",")))
    for name in asked:
        if name not in known:
            raise InvalidInput("--approaches", name, "not an approach", f"choose among {', '.join(known)}")
    return asked


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Refuse options below 1.

    Raises:
        InvalidInput: naming the option.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            option = f"--{name.replace('_', '-')}"
            raise InvalidInput(option, value, "out of range", "give a whole number of at least 1")


def execution_of(listed: str) -> Execution:
    """The ways to train that are listed.

    Raises:
        InvalidInput: for one that there is not.
    """
    asked = [name.strip() for name in listed.split(",") if name.strip()]
    for name in asked:
        if name not in _WAYS:
            raise InvalidInput("--execution", name, "not a way to train", f"choose among {', '.join(_WAYS)}")
    return Execution(**dict.fromkeys(asked, True))


def _device(asked: str | None) -> str:
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise InvalidInput("--device", asked, "not a device", "give cpu or cuda") from error
    if device.type not in {"cpu", "cuda"}:
        raise InvalidInput("--device", asked, "not a device to train on", "give cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Unavailable(
            "there is no CUDA device here" if device.index is None else f"there is no {asked} here", "give --device cpu"
        )
    return asked
