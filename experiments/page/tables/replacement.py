"""RQ2, replacement, in tables: points won and lost, ours beside table 2 of the paper.

A cell reads ``target / others``: accuracy after minus before, in points, mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.evidence.files import PAPER_EPOCHS, Evidence
from experiments.evidence.summaries import seeds, share
from experiments.page.markdown import NOTHING, count, number, percent, signed, table
from experiments.paper import table_2
from experiments.records.result_file import Row

__all__ = ["WAYS", "beside_the_paper", "finding", "of_one", "summary", "unmeasured", "unmeasured_cases"]

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
    """Table 2 for one data set: what was measured of it, a cell that was not is empty; nothing without any."""
    rows = []
    for kind in table_2.KINDS:
        for strong in table_2.STRONG:
            file = _of_case(files, strong, dataset)
            for way in WAYS:
                if file is not None and any(_changes(file, kind, PAPER_EPOCHS, way, table_2.TARGETS[dataset])):
                    rows += _paper_rows(file, dataset, kind, strong, way)
    return table(_columns(table_2.TARGETS[dataset]), rows) if rows else ""


def unmeasured(files: Sequence[Evidence], dataset: str) -> str:
    """Of table 2 the paper's rows that we lack a cell of, with ours empty where it is lacking."""
    rows = []
    for (kind, strong, approach, data), cells in table_2.REPLACEMENT.items():
        ours = _ours(_of_case(files, strong, dataset), dataset, kind, approach)
        if data == dataset and not all(ours):
            name, theirs = f"{kind}, {strong}, {approach}", [(cell.target, cell.others) for cell in cells]
            rows += [[f"{name}: paper", *map(_points, theirs)], [f"{name}: ours", *map(_points, ours)]]
    return table(["weak, strong, approach", *table_2.TARGETS[dataset]], rows) if rows else ""


def of_one(file: Evidence) -> str:
    """One strong model: what the weak models were before, and what each way changed."""
    targets = list(dict.fromkeys(row["target"] for row in file.rows()))
    rows = []
    for kind, epochs in dict.fromkeys((row["weak"], row["weak_epochs"]) for row in file.rows()):
        alike = file.rows(weak=kind, weak_epochs=epochs)
        before = [_before([row for row in alike if row["target"] == target]) for target in targets]
        name = f"{kind} ({epochs} epochs)"
        rows.append([f"{name}, before, %", *map(_percentages, before), _percentages(_mean(before)), *[NOTHING] * 3])
        for way in WAYS:
            found = _changes(file, kind, epochs, way, targets)
            if any(found):
                rows.append([f"{name}, {way.shown}", *_cells(found), *_about(file, kind, epochs, way)])
    return table(["weak model, approach", *_columns(targets)[1:]], rows)


def finding(file: Evidence) -> str:
    """Mean changes over target classes, in a line."""
    targets = list(dict.fromkeys(row["target"] for row in file.rows()))
    said = []
    for kind, epochs in dict.fromkeys((row["weak"], row["weak_epochs"]) for row in file.rows()):
        found = [(way.shown, _mean(_changes(file, kind, epochs, way, targets))) for way in (WAYS[2], WAYS[0])]
        changes = ", ".join(f"{shown} {_points(change)}" for shown, change in found if change is not None)
        said += [f"of an {kind} weak model {changes}"] if changes else []
    return "replacement changes target class / others by, in points, " + "; ".join(said) if said else ""


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
        f" classes: {models}. Epochs of the weak models: {epochs} overfitted, a twentieth of them underfitted.\n"
    )


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Strong models and data sets of table 2 that lack a cell."""
    return [
        (strong, dataset)
        for dataset in table_2.TARGETS
        for strong in table_2.STRONG
        if not all(
            all(_ours(_of_case(files, strong, dataset), dataset, kind, approach))
            for case, (kind, approach) in ((key, (key[0], key[2])) for key in table_2.REPLACEMENT)
            if (case[1], case[3]) == (strong, dataset)
        )
    ]


def _columns(targets: Sequence[str]) -> list[str]:
    return ["weak, strong, approach", *targets, "mean", "improved", "module, %", "seeds"]


def _of_case(files: Sequence[Evidence], strong: str, dataset: str) -> Evidence | None:
    return next((one for one in files if (one.model, one.dataset) == (strong, dataset)), None)


def _paper_rows(file: Evidence, dataset: str, kind: str, strong: str, way: _Way) -> list[list[str]]:
    """The paper's row, ours and the difference; ours alone for a way that the paper does not have."""
    name = f"{kind}, {strong}, {way.shown}"
    cells = () if way.initial == "normal" else table_2.REPLACEMENT.get((kind, strong, way.approach, dataset), ())
    theirs: list[_Change | None] = [(cell.target, cell.others) for cell in cells]
    ours = _changes(file, kind, PAPER_EPOCHS, way, table_2.TARGETS[dataset])
    own = [f"{name}: ours", *_cells(ours), *_about(file, kind, PAPER_EPOCHS, way)]
    if not theirs:
        return [own]
    differences = [_minus(*pair) for pair in zip(ours, theirs, strict=True)]
    return [
        [f"{name}: paper", *_cells(theirs), NOTHING, NOTHING],
        own,
        [f"{name}: difference", *_cells(differences)[:-1], *[NOTHING] * 3],
    ]


def _ours(file: Evidence | None, dataset: str, kind: str, approach: str) -> list[_Change | None]:
    """Of an approach of the paper's, by target class."""
    targets = table_2.TARGETS[dataset]
    way = next(way for way in WAYS if way.approach == approach)
    return [None] * len(targets) if file is None else _changes(file, kind, PAPER_EPOCHS, way, targets)


def _changes(file: Evidence, kind: str, epochs: int, way: _Way, targets: Sequence[str]) -> list[_Change | None]:
    """By target class, of weak models trained so long; None where nothing was measured."""
    return [_change(_rows(file, kind, epochs, way, target=target)) for target in targets]


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


def _about(file: Evidence, kind: str, epochs: int, way: _Way) -> list[str]:
    """The mean share of its model that the module is, and the seeds."""
    rows = _rows(file, kind, epochs, way)
    if not rows:
        return [NOTHING, NOTHING]
    return [percent(fmean(row["module_size"] for row in rows)), str(seeds(rows))]


def _rows(file: Evidence, kind: str, epochs: int, way: _Way, **keys: object) -> list[Row]:
    rows = file.rows(weak=kind, weak_epochs=epochs, approach=way.approach, **keys)
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
