"""One model on one data set, trained so long and so often: what the programs measure in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.records.conditions import invocation
from experiments.setup.datasets import dataset_digest
from moda_core.data.dataset import Dataset
from moda_core.data.digits import load_digits
from moda_core.data.npz import load_npz
from moda_core.specs import TrainingSpec
from moda_core.training.execution import EAGER, Execution

__all__ = ["RESULTS", "Setting"]

RESULTS = Path(__file__).parents[1] / "results"


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
