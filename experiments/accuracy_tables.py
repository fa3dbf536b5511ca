"""RQ1 in tables: test accuracy and training time, ours beside table 1 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from experiments import paper
from experiments.evaluation import share
from experiments.evidence import Evidence
from experiments.markdown import NOTHING, count, mean_and_deviation, number, signed, table
from experiments.results import Row
from experiments.summaries import of_kind

__all__ = ["beside_the_paper", "of_one", "unmeasured_cases"]

_APPROACHES = ("ST", "MwT", "MODA", "MODA-")


def beside_the_paper(files: Sequence[Evidence]) -> str:
    """Table 1: nine cases, empty where nothing was measured."""
    columns = ["model, data set, approach", "paper, %", "ours, %", "difference", "seeds", "n"]
    columns += ["paper, h", "ours, min", "images/s", "paper, x ST", "ours, x ST"]
    rows = [
        row
        for case in paper.TEST_ACCURACY
        for approach in _APPROACHES
        if (row := _paper_row(case, approach, _of_case(files, case)))
    ]
    return table(columns, rows)


def of_one(file: Evidence) -> str:
    """One narrowed setting: no number of the paper compares with it."""
    columns = ["approach", "test accuracy, %", "n", "seeds", "s per epoch", "processor s per epoch", "x ST"]
    standard = _trainings(file, "ST")
    found = [(approach, _trainings(file, approach)) for approach in _APPROACHES]
    return table(columns, [_own_row(approach, rows, standard) for approach, rows in found if rows])


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets of table 1 that lack an approach."""
    wanted = _APPROACHES[:3]
    return [
        case
        for case in paper.TEST_ACCURACY
        if any(not _trainings(_of_case(files, case), approach) for approach in wanted)
    ]


def _of_case(files: Sequence[Evidence], case: tuple[str, str]) -> Evidence | None:
    return next((file for file in files if (file.model, file.dataset) == case), None)


def _trainings(file: Evidence | None, approach: str) -> list[Row]:
    return [] if file is None else of_kind(file.rows(approach=approach), "training")


def _paper_row(case: tuple[str, str], approach: str, file: Evidence | None) -> list[str] | None:
    """A row of table 1; None for an approach that neither the paper nor we have measured."""
    theirs, hours = paper.TEST_ACCURACY[case].get(approach), paper.TRAINING_HOURS[case]
    rows, standard = _trainings(file, approach), _trainings(file, "ST")
    if theirs is None and not rows:
        return None
    ours = [100 * share(row["accuracy"]) for row in rows]
    return [
        f"{case[0]}, {case[1]}, {approach}",
        NOTHING if theirs is None else f"{theirs.mean:.2f} ± {theirs.deviation:.2f}",
        mean_and_deviation(ours),
        signed(fmean(ours) - theirs.mean) if ours and theirs else NOTHING,
        str(len(rows)) if rows else NOTHING,
        _images(rows),
        number(hours.get(approach)),
        number(fmean(row["wall_s"] for row in rows) / 60) if rows else NOTHING,
        count(round(fmean(row["images_per_s"] for row in rows))) if rows else NOTHING,
        number(hours[approach] / hours["ST"]) if approach in hours else NOTHING,
        _ratio(rows, standard, "wall_s"),
    ]


def _own_row(approach: str, rows: Sequence[Row], standard: Sequence[Row]) -> list[str]:
    return [
        approach,
        mean_and_deviation([100 * share(row["accuracy"]) for row in rows]),
        _images(rows),
        str(len(rows)),
        number(_per_epoch(rows, "wall_s")),
        number(_per_epoch(rows, "cpu_s")),
        _ratio(rows, standard, "cpu_s"),
    ]


def _images(rows: Sequence[Row]) -> str:
    return " or ".join(count(n) for n in dict.fromkeys(row["accuracy"]["n"] for row in rows))


def _per_epoch(rows: Sequence[Row], key: str) -> float:
    return fmean(row[key] / row["epochs"] for row in rows)


def _ratio(rows: Sequence[Row], standard: Sequence[Row], key: str) -> str:
    """Time beside the standard model's; of runs on one kind of hardware and one way of training only."""
    alike = {str(row["trained_on"]["hardware"]) for row in (*rows, *standard)}
    if not rows or not standard or len(alike) > 1:
        return NOTHING
    return number(_per_epoch(rows, key) / _per_epoch(standard, key))
