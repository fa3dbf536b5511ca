"""Result files as the tables need them: what each is about, its rows, and what they were measured under."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experiments import paper
from experiments.results import ResultFile, Row
from moda_core.errors import UnreadableFile

__all__ = ["PAPER_EPOCHS", "Evidence", "by_setting", "evidence"]

PAPER_EPOCHS = 200
_QUESTIONS = ("rq1", "rq2-reuse", "rq2-replacement", "rq3", "rq4-weights", "rq4-threshold", "overhead", "beyond-relu")
_NAME = re.compile(
    rf"(?P<question>{'|'.join(_QUESTIONS)})-(?P<dataset>[^-]+)-(?P<model>.+?)"
    r"(?:-w(?P<width>[0-9.]+))?(?:-e(?P<epochs>[0-9]+))?\.jsonl"
)


@dataclass(frozen=True)
class Evidence:
    """One result file.

    Attributes:
        question: as in the file's name, like the next four.
        epochs: of training; 0 where neither name nor rows say.
    """

    path: Path
    question: str
    dataset: str
    model: str
    width: float
    epochs: int

    @property
    def full_size(self) -> bool:
        """Whether it is one of the paper's cases: its model and data set, at its width, for its epochs."""
        its_case = self.model in paper.MODELS and self.dataset in paper.DATASETS
        return its_case and self.width == 1 and self.epochs == PAPER_EPOCHS

    @cached_property
    def everything(self) -> list[Row]:
        """All rows, those of conditions included."""
        return ResultFile(self.path).rows()

    @property
    def conditions(self) -> list[Row]:
        """What its rows were measured under, in the order of the file."""
        return [row for row in self.everything if row.get("kind") == "conditions"]

    def rows(self, **keys: object) -> list[Row]:
        """The measured rows that have all these values."""
        return [
            row
            for row in self.everything
            if row.get("kind") != "conditions" and all(row.get(key) == value for key, value in keys.items())
        ]

    def stated(self, key: str) -> list[str]:
        """The different values of a condition, in order."""
        return list(dict.fromkeys(str(row[key]) for row in self.conditions if row.get(key) is not None))

    def seeds(self, approach: str) -> list[int]:
        """The seeds that an approach has rows of."""
        return sorted({int(row["seed"]) for row in self.rows(approach=approach)})


def evidence(folder: Path) -> list[Evidence]:
    """The result files of a folder, by name.

    Raises:
        UnreadableFile: for a file whose name does not say what it is about, or with a broken line.
    """
    return [_named(path) for path in sorted(folder.glob("*.jsonl"))]


def _named(path: Path) -> Evidence:
    match = _NAME.fullmatch(path.name)
    if match is None:
        remedy = "name it <question>-<dataset>-<model>[-w<width>]-e<epochs>.jsonl, or move it elsewhere"
        raise UnreadableFile("results", path.name, "a name that does not say what it is about", remedy)
    recipe = _recipe(path) if match["epochs"] is None else {"width": match["width"] or 1, "epochs": match["epochs"]}
    return Evidence(
        path=path,
        question=match["question"],
        dataset=match["dataset"],
        model=match["model"],
        width=float(recipe["width"]),
        epochs=int(recipe["epochs"]),
    )


def _recipe(path: Path) -> Row:
    """Width and epochs of the first row that states them, for a file whose name does not."""
    return next((row for row in ResultFile(path).rows() if "epochs" in row), {"width": 1, "epochs": 0})


def by_setting(files: Sequence[Evidence]) -> dict[tuple[str, str, float, int], list[Evidence]]:
    """Files of one data set, model, width and number of epochs."""
    found: dict[tuple[str, str, float, int], list[Evidence]] = {}
    for file in files:
        found.setdefault((file.dataset, file.model, file.width, file.epochs), []).append(file)
    return found
