"""RQ2, replacement, in tables: points won and lost, ours beside table 2 of the paper.

A cell reads ``target / others``: accuracy after minus before, in points, mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments import paper
from experiments.evaluation import share
from experiments.evidence import Evidence
from experiments.markdown import NOTHING, count, number, percent, signed, table
from experiments.results import Row

__all__ = ["WAYS", "beside_the_paper", "of_one", "summary", "unmeasured_cases"]

_Change = tuple[float, float]


@dataclass(frozen=True)
class _Way:
    approach: str
    initial: str | None
    shown: str


WAYS = (
    _Way("CNNSplitter", None, "CNNSplitter"),
    _Way("CNNSplitter-public", None, "CNNSplitter, range of the paper's code"),
    _Way("MODA", "identity", "MODA"),
    _Way("MODA", "normal", "MODA, from N(0, 0.01)"),
    _Way("ST-composed", "identity", "ST-composed"),
    _Way("ST-composed", "normal", "ST-composed, from N(0, 0.01)"),
)
"""Ways of replacing; the adaptation layer starts from the plain splice where nothing else is said."""


def beside_the_paper(files: Sequence[Evidence], dataset: str) -> str:
    """Table 2 for one data set: 20 cells for each approach, empty where nothing was measured."""
    targets = paper.TARGETS[dataset]
    rows = []
    for kind in paper.KINDS:
        for strong in paper.STRONG:
            file = next((one for one in files if (one.model, one.dataset) == (strong, dataset)), None)
            for way in WAYS:
                rows += _paper_rows(file, dataset, kind, strong, way)
    return table(["weak, strong, approach", *targets, "mean", "improved", "module, %", "seeds"], rows)


def of_one(file: Evidence) -> str:
    """One strong model: what the weak models were before, and what each way changed."""
    targets = list(dict.fromkeys(row["target"] for row in file.rows()))
    rows = []
    for kind in dict.fromkeys(row["weak"] for row in file.rows()):
        before = [_before(file.rows(weak=kind, target=target)) for target in targets]
        rows.append([f"{kind}, before, %", *map(_percentages, before), _percentages(_mean(before)), *[NOTHING] * 3])
        for way in WAYS:
            found = _changes(file, kind, way, targets)
            if any(found):
                rows.append([f"{kind}, {way.shown}", *_cells(found), *_about(file, kind, way)])
    return table(["weak model, approach", *targets, "mean", "improved", "module, %", "seeds"], rows)


def summary(file: Evidence) -> str:
    """What stands beside the table: how good the strong model is, and on how many images all is measured."""
    rows = file.rows()
    strong = _means(rows, lambda row: share(row["strong_accuracy"]), "approach")
    images = {(row["tc_before"]["n"], row["non_tc_before"]["n"]) for row in rows}
    counted = " or ".join(f"{count(target)} and {count(others)}" for target, others in sorted(images))
    models = ", ".join(f"{percent(accuracy)} % ({name})" for name, accuracy in strong.items() if "Split" not in name)
    epochs = " or ".join(str(number) for number in dict.fromkeys(row["weak_epochs"] for row in rows))
    return (
        f"Test images of the target class and of the five others: {counted}. Strong models on their own five"
        f" classes: {models}. Weak models: {epochs} epochs overfitted, a twentieth of them underfitted.\n"
    )


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Strong models and data sets of table 2 without a row."""
    measured = {(file.model, file.dataset) for file in files if file.rows()}
    return [
        (strong, dataset) for dataset in paper.TARGETS for strong in paper.STRONG if (strong, dataset) not in measured
    ]


def _paper_rows(file: Evidence | None, dataset: str, kind: str, strong: str, way: _Way) -> list[list[str]]:
    """The paper's row, ours and the difference; ours alone for a way that the paper does not have."""
    name = f"{kind}, {strong}, {way.shown}"
    has_paper = way.initial != "normal"
    cells = paper.REPLACEMENT.get((kind, strong, way.approach, dataset), ()) if has_paper else ()
    theirs: list[_Change | None] = [(cell.target, cell.others) for cell in cells]
    ours = _ours(file, dataset, kind, way)
    rows = []
    if theirs:
        rows.append([f"{name}: paper", *_cells(theirs), NOTHING, NOTHING])
    if theirs or any(ours):
        about = [NOTHING, NOTHING] if file is None else _about(file, kind, way)[-2:]
        rows.append([f"{name}: ours", *_cells(ours), *about])
    if theirs and any(ours):
        rows.append(
            [
                f"{name}: difference",
                *_cells([_minus(*pair) for pair in zip(ours, theirs, strict=True)])[:-1],
                *[NOTHING] * 3,
            ]
        )
    return rows


def _ours(file: Evidence | None, dataset: str, kind: str, way: _Way) -> list[_Change | None]:
    targets = paper.TARGETS[dataset]
    return [None] * len(targets) if file is None else _changes(file, kind, way, targets)


def _changes(file: Evidence, kind: str, way: _Way, targets: Sequence[str]) -> list[_Change | None]:
    """By target class; None where nothing was measured."""
    return [_change(_rows(file, kind, way, target=target)) for target in targets]


def _change(rows: Sequence[Row]) -> _Change | None:
    if not rows:
        return None
    target, others = (
        100 * fmean(share(row[f"{part}_after"]) - share(row[f"{part}_before"]) for row in rows)
        for part in ("tc", "non_tc")
    )
    return target, others


def _before(rows: Sequence[Row]) -> _Change | None:
    if not rows:
        return None
    target, others = (100 * fmean(share(row[f"{part}_before"]) for row in rows) for part in ("tc", "non_tc"))
    return target, others


def _cells(changes: Sequence[_Change | None]) -> list[str]:
    """The cells, their mean, and how many targets gained."""
    found = [change for change in changes if change is not None]
    improved = f"{sum(target > 0 for target, _ in found)} of {len(found)}" if found else NOTHING
    return [*map(_points, changes), _points(_mean(changes)), improved]


def _about(file: Evidence, kind: str, way: _Way) -> list[str]:
    """The mean share of its model that the module is, and the seeds."""
    rows = _rows(file, kind, way)
    if not rows:
        return [NOTHING, NOTHING]
    return [percent(fmean(row["module_size"] for row in rows)), str(len({row["seed"] for row in rows}))]


def _rows(file: Evidence, kind: str, way: _Way, **keys: object) -> list[Row]:
    rows = file.rows(weak=kind, approach=way.approach, **keys)
    return [row for row in rows if row.get("initial") == way.initial]


def _mean(changes: Sequence[_Change | None]) -> _Change | None:
    found = [change for change in changes if change is not None]
    return (fmean(target for target, _ in found), fmean(others for _, others in found)) if found else None


def _minus(ours: _Change | None, theirs: _Change | None) -> _Change | None:
    return None if ours is None or theirs is None else (ours[0] - theirs[0], ours[1] - theirs[1])


def _means(rows: Sequence[Row], measure: Callable[[Row], float], key: str) -> dict[str, float]:
    return {
        str(value): fmean(measure(row) for row in rows if row[key] == value)
        for value in dict.fromkeys(row[key] for row in rows)
    }


def _points(change: _Change | None) -> str:
    return NOTHING if change is None else f"{signed(change[0])} / {signed(change[1])}"


def _percentages(change: _Change | None) -> str:
    return NOTHING if change is None else f"{number(change[0])} / {number(change[1])}"
