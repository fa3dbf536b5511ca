"""Result files as the tables need them: what each is about, its rows, and what they were measured under."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from experiments.evidence.chosen import Training, chosen, latest, of_chosen
from experiments.paper import study
from experiments.records.result_file import ResultFile, Row
from moda_core.errors import UnreadableFile

__all__ = ["PAPER_EPOCHS", "Evidence", "by_setting", "evidence", "evidence_of"]

PAPER_EPOCHS = 200
_QUESTIONS = ("rq1", "rq2-reuse", "rq2-replacement", "rq3", "rq4-weights", "rq4-threshold", "overhead", "beyond-relu")
_NAME = re.compile(
    rf"(?P<question>{'|'.join(_QUESTIONS)})-(?P<dataset>[^-]+)-(?P<model>.+?)"
    r"(?:-w(?P<width>[0-9.]+))?(?:-e(?P<epochs>[0-9]+))?\.jsonl"
)


@dataclass(frozen=True)
class Evidence:
    """One result file, or the part of it that was measured at full size.

    Attributes:
        question: as in the file's name, like the next four.
        epochs: of training; 0 where neither name nor rows say.
        everything: all rows, those of conditions included.
        models: which model counts where a seed has several.
    """

    path: Path
    question: str
    dataset: str
    model: str
    width: float
    epochs: int
    everything: tuple[Row, ...] = field(repr=False)
    models: dict[Training, str] = field(default_factory=dict, repr=False)

    @property
    def papers_case(self) -> bool:
        """Whether its name is that of one of the paper's cases: model and data set, at its width, for its epochs."""
        its_case = self.model in study.MODELS and self.dataset in study.DATASETS
        return its_case and self.width == 1 and self.epochs == PAPER_EPOCHS

    @property
    def full_size(self) -> bool:
        """Whether all that was measured is as the paper's: its case, on as many images, weak models trained as long."""
        return self.papers_case and all(self._as_the_papers(row) for row in self._measured)

    @property
    def conditions(self) -> list[Row]:
        """What its rows were measured under, in the order of the file."""
        return [row for row in self.everything if row.get("kind") == "conditions"]

    def rows(self, **keys: object) -> list[Row]:
        """The measured rows that have all these values: of one model for each approach and seed, without failures."""
        return [row for row in self._rows if all(row.get(key) == value for key, value in keys.items())]

    @property
    def failures(self) -> list[Row]:
        """Rows that say why something could not be measured."""
        return [row for row in self._measured if isinstance(row.get("error"), str)]

    def stated(self, key: str) -> list[str]:
        """The different values of a condition, in order."""
        return list(dict.fromkeys(str(row[key]) for row in self.conditions if row.get(key) is not None))

    def parts(self) -> list[Evidence]:
        """Its rows at the paper's size, and the others, where a file of the paper's case has both."""
        if not self.papers_case or self.full_size:
            return [self]
        parts = [self._where(self._as_the_papers), self._where(lambda row: not self._as_the_papers(row))]
        return [part for part in parts if part._measured]

    @cached_property
    def _measured(self) -> list[Row]:
        return [row for row in self.everything if row.get("kind") != "conditions"]

    @cached_property
    def _rows(self) -> list[Row]:
        valid = [row for row in self._measured if not isinstance(row.get("error"), str)]
        return latest(of_chosen(valid, self.models))

    @cached_property
    def _under(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.conditions}

    def _as_the_papers(self, row: Row) -> bool:
        """Whether nothing that is stated of a row says that it is smaller than the paper's."""
        data = self._under.get(row.get("conditions", ""), {}).get("dataset")
        images = study.IMAGES.get(self.dataset)
        stated = (data.get("train"), data.get("test")) if isinstance(data, dict) else images
        return stated == images and row.get("weak_epochs", PAPER_EPOCHS) == PAPER_EPOCHS

    def _where(self, wanted: Callable[[Row], bool]) -> Evidence:
        rows = [row for row in self._measured if wanted(row)]
        used = {row.get("conditions") for row in rows}
        stated = [row for row in self.conditions if row["id"] in used]
        return replace(self, everything=(*stated, *rows))


def evidence(folder: Path) -> list[Evidence]:
    """The result files of a folder, by name; one with rows at full size and others gives both parts.

    Raises:
        UnreadableFile: for a file whose name does not say what it is about, with a broken line, or with two models of
            one seed that cannot be told apart.
    """
    files = _with_models([_named(path) for path in sorted(folder.glob("*.jsonl"))])
    return [part for file in files for part in file.parts()]


def evidence_of(path: Path) -> Evidence:
    """One result file, read beside the others of its setting.

    Raises:
        UnreadableFile: as `evidence` does.
    """
    own = _named(path)
    others = [_named(other) for other in sorted(path.parent.glob("*.jsonl")) if _NAME.fullmatch(other.name)]
    alike = by_setting([own, *(other for other in others if other.path != path)])[_setting(own)]
    return _with_models(alike)[0]


def by_setting(files: Sequence[Evidence]) -> dict[tuple[str, str, float, int], list[Evidence]]:
    """Files of one data set, model, width and number of epochs."""
    found: dict[tuple[str, str, float, int], list[Evidence]] = {}
    for file in files:
        found.setdefault(_setting(file), []).append(file)
    return found


def _setting(file: Evidence) -> tuple[str, str, float, int]:
    return file.dataset, file.model, file.width, file.epochs


def _with_models(files: Sequence[Evidence]) -> list[Evidence]:
    """Files, each with the models that count in its setting."""
    models = {
        setting: chosen({file.question: file.everything for file in alike})
        for setting, alike in by_setting(files).items()
    }
    return [replace(file, models=models[_setting(file)]) for file in files]


def _named(path: Path) -> Evidence:
    match = _NAME.fullmatch(path.name)
    if match is None:
        remedy = "name it <question>-<dataset>-<model>[-w<width>]-e<epochs>.jsonl, or move it elsewhere"
        raise UnreadableFile("results", path.name, "a name that does not say what it is about", remedy)
    rows = ResultFile(path).rows()
    recipe = _recipe(rows) if match["epochs"] is None else {"width": match["width"] or 1, "epochs": match["epochs"]}
    return Evidence(
        path=path,
        question=match["question"],
        dataset=match["dataset"],
        model=match["model"],
        width=float(recipe["width"]),
        epochs=int(recipe["epochs"]),
        everything=tuple(rows),
    )


def _recipe(rows: Sequence[Row]) -> Row:
    """Width and epochs of the first row that states them, for a file whose name does not."""
    return next((row for row in rows if "epochs" in row), {"width": 1, "epochs": 0})
