"""The cells of table 2, and the rows of each: what there should be, and what a result file lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from experiments.records.result_file import ResultFile, Row
from experiments.replacement.parts import WEAK_KINDS, Part, strong_part, strong_spec, targets, weak_part, weak_spec
from experiments.setup.setting import Setting
from moda_core.specs import AdaptationSpec

__all__ = ["INITIALS", "OBJECTIVES", "QUESTION", "RANGED", "Cell", "adaptation", "lacking", "missing"]

QUESTION = "rq2-replacement"
OBJECTIVES = {"MODA": "modular", "ST-composed": "standard"}
"""What the strong model of an approach with an adaptation layer was trained for."""
INITIALS = ("identity", "normal")
"""Both starts of the adaptation layer; the first is the default, and the table's."""
RANGED = ("CNNSplitter", "CNNSplitter-public")
"""Approaches that scale a module's logit by a range."""

Cell = tuple[int, str, str]
"""Seed, kind of weak model, target class."""

_WAYS = (*product(OBJECTIVES, INITIALS), *((approach, None) for approach in RANGED))
_NAMES = ("weak", "weak_epochs", "target", "seed", "approach", "initial")
_SPECS = ("spec", "weak_spec", "adaptation_spec")


def lacking(file: ResultFile, setting: Setting, weak_epochs: int) -> dict[Cell, list[Row]]:
    """How each row begins that a file lacks, by cell; rows of models by other specs are other rows."""
    found = {_identity(row, (*_NAMES, *_SPECS)) for row in file.measured()}
    heads = {
        cell: [head for head in heads if _identity(head, (*_NAMES, *_SPECS)) not in found]
        for cell, heads in _wanted(setting, weak_epochs).items()
    }
    return {cell: some for cell, some in heads.items() if some}


def missing(setting: Setting, classes: Sequence[str], weak_epochs: int) -> list[Cell]:
    """The cells of which a result file lacks a row.

    No images are read for it: rows of models by any spec count, where `lacking` asks for those of today's.
    """
    found = {_identity(row, _NAMES) for row in ResultFile(setting.result_path(QUESTION)).measured()}
    return [
        cell
        for cell in _cells(setting, classes)
        if any(_identity(_head(cell, weak_epochs, *way), _NAMES) not in found for way in _WAYS)
    ]


def adaptation(initial: str, seed: int) -> AdaptationSpec:
    """What the adaptation layer learns by, from a start."""
    return AdaptationSpec.from_json({"initial": initial, "seed": seed})


def _cells(setting: Setting, classes: Sequence[str]) -> list[Cell]:
    return list(product(setting.seeds, WEAK_KINDS, targets(classes)))


def _wanted(setting: Setting, weak_epochs: int) -> dict[Cell, list[Row]]:
    """How each row of each cell begins; a part of the data set is made once, and no two are held at a time."""
    dataset, cells = setting.dataset, _cells(setting, setting.dataset.classes)
    strong = {seed: _strong_specs(setting, strong_part(dataset, seed), seed) for seed in setting.seeds}
    weak = {
        (seed, kind, target): weak_spec(part, kind, weak_epochs, seed).digest()[:16]
        for target in targets(dataset.classes)
        for part in [weak_part(dataset, target)]
        for seed, kind in product(setting.seeds, WEAK_KINDS)
    }
    return {
        cell: [
            _head(cell, weak_epochs, approach, initial)
            | {"strong": setting.model, "weak_spec": weak[cell]}
            | _specs(strong[cell[0]], approach, initial, cell[0])
            for approach, initial in _WAYS
        ]
        for cell in cells
    }


def _head(cell: Cell, weak_epochs: int, approach: str, initial: str | None) -> Row:
    seed, kind, target = cell
    head = {"kind": "replacement", "weak": kind, "weak_epochs": weak_epochs, "target": target, "seed": seed}
    return head | {"approach": approach} | ({} if initial is None else {"initial": initial})


def _strong_specs(setting: Setting, part: Part, seed: int) -> dict[str, str]:
    return {
        approach: strong_spec(part, setting.model, setting.width, setting.epochs, seed, objective).digest()[:16]
        for approach, objective in OBJECTIVES.items()
    }


def _specs(strong: Mapping[str, str], approach: str, initial: str | None, seed: int) -> Row:
    """What trains the strong model and, where there is one, the layer."""
    if initial is None:
        return {"spec": strong["MODA"]}
    return {"spec": strong[approach], "adaptation_spec": adaptation(initial, seed).digest()[:16]}


def _identity(row: Row, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(row.get(name) for name in names)
