"""What all experiments are asked: which model on which data set, how long, how often, where the files are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from experiments.models.runs import dataset_digest
from experiments.records.conditions import invocation
from experiments.reuse.subtasks import Subtask, drawn, subtasks
from moda_core.architectures.catalogue import complete
from moda_core.data.dataset import Dataset
from moda_core.data.digits import load_digits
from moda_core.data.npz import load_npz
from moda_core.errors import InvalidInput, Unavailable
from moda_core.specs import TrainingSpec
from moda_core.training.execution import EAGER, Execution

__all__ = [
    "APPROACHES",
    "Setting",
    "add_approaches",
    "add_options",
    "add_surroundings",
    "add_tasks",
    "approaches_of",
    "check_positive",
    "execution_of",
    "named",
    "setting_of",
    "surroundings_of",
    "tasks_of",
]

RESULTS = Path(__file__).parents[1] / "results"
DIGITS = "digits"
_WAYS = tuple(field.name for field in fields(Execution))
APPROACHES: dict[str, dict[str, Any]] = {
    "ST": {"objective": "standard"},
    "MODA": {},
    "MODA-": {"gamma": 0.0},
}
"""What each approach changes in the default training spec."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One model on one data set, trained for so many epochs under some seeds.

    Attributes:
        name: of the data set, in file names and tables.
        source: its ``.npz`` file; None for the digits that come with scikit-learn.
        width: multiplier of the model's channels and units; 1 as in the paper.
        runs: folder of trained models, one folder per spec.
        results: folder of result files.
        images_per_class: test images of each class that reuse is measured on, the first ones; None for all.
        execution: of training.
    """

    name: str
    source: Path | None
    model: str
    width: float = 1.0
    epochs: int = 200
    seeds: tuple[int, ...] = (0,)
    device: str = "cpu"
    runs: Path = Path("runs")
    results: Path = RESULTS
    images_per_class: int | None = None
    execution: Execution = EAGER

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, read when first asked for."""
        return load_digits() if self.source is None else load_npz(self.source)

    @cached_property
    def digest(self) -> str:
        """What training specs call the data set."""
        return dataset_digest(self.dataset)

    @property
    def about(self) -> dict[str, Any]:
        """What the data set is, for the record."""
        dataset = self.dataset
        return {
            "name": self.name,
            "digest": self.digest[:16],
            "train": len(dataset.train),
            "test": len(dataset.test),
        }

    def invocation(self) -> dict[str, Any]:
        """The conditions of a program that measures in this setting."""
        return invocation(self.device) | {"dataset": self.about}

    def spec(self, seed: int, **changes: Any) -> TrainingSpec:
        """The training spec of a seed: the paper's recipe but for `changes`."""
        return TrainingSpec(
            dataset=self.digest,
            architecture=self.model,
            width=self.width,
            epochs=self.epochs,
            seed=seed,
            **changes,
        )

    def result_path(self, question: str) -> Path:
        """Where the results of a question lie, by what they are results of."""
        width = "" if self.width == 1 else f"-w{self.width:g}"
        model = self.model.replace("/", "-")
        return self.results / f"{question}-{self.name}-{model}{width}-e{self.epochs}.jsonl"


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


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add the option that measures fewer sub-tasks."""
    says = "a random sample of N sub-tasks (default: all of 10 classes, the paper's sample of 100)"
    parser.add_argument("--tasks", type=int, default=None, metavar="N", help=says)


def tasks_of(options: argparse.Namespace, setting: Setting) -> tuple[Subtask, ...]:
    """The sub-tasks asked for."""
    check_positive(options, "tasks")
    return drawn(subtasks(len(setting.dataset.classes)), options.tasks)


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


def named(dataset: str) -> tuple[str, Path | None]:
    """Name and file of ``NAME=PATH``, ``PATH`` or ``digits``."""
    if dataset == DIGITS:
        return DIGITS, None
    name, equals, path = dataset.partition("=")
    source = Path(path if equals else dataset)
    name = name if equals else source.stem
    if not name or set(name) & set("/\\-" + os.sep):
        remedy = "give NAME=PATH, as in cifar10=data.npz, with no slash and no hyphen in the name"
        raise InvalidInput("--dataset", dataset, "no name for the names of result files", remedy)
    if not source.is_file():
        raise InvalidInput("--dataset", str(source), "there is no such file", "give the path of an .npz file")
    return name, source


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
