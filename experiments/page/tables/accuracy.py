"""RQ1 in tables: test accuracy and training time, ours beside table 1 of the paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import of_kind, seeds, share
from experiments.page.markdown import NOTHING, count, mean_and_deviation, number, signed, table
from experiments.paper import table_1
from experiments.records.result_file import Row

__all__ = ["beside_the_paper", "finding", "of_one", "unmeasured", "unmeasured_cases"]

_APPROACHES = ("ST", "MwT", "MODA", "MODA-")
_SURROUNDINGS = ("hardware", "threads", "processes", "execution")


def beside_the_paper(files: Sequence[Evidence]) -> str:
    """Table 1, the rows that were measured."""
    columns = ["model, data set, approach", "paper, %", "ours, %", "difference", "seeds", "n"]
    columns += ["paper, h", "ours, min", "images/s", "paper, x ST", "ours, x ST"]
    cases = [(case, approach, _of_case(files, case)) for case in table_1.TEST_ACCURACY for approach in _APPROACHES]
    return table(columns, [_paper_row(*case) for case in cases if _trainings(case[2], case[1])])


def unmeasured(files: Sequence[Evidence]) -> str:
    """Table 1, the rows that were not."""
    columns = ["model, data set, approach", "paper, %", "ours, %", "paper, h", "paper, x ST"]
    rows = []
    for case, theirs in table_1.TEST_ACCURACY.items():
        for approach, accuracy in theirs.items():
            if not _trainings(_of_case(files, case), approach):
                name, shown = ", ".join((*case, approach)), _with_deviation(accuracy)
                rows.append([name, shown, NOTHING, *_papers_time(case, approach)])
    return table(columns, rows) if rows else ""


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets of table 1 that lack an approach."""
    return [
        case
        for case, theirs in table_1.TEST_ACCURACY.items()
        if any(not _trainings(_of_case(files, case), approach) for approach in theirs)
    ]


def of_one(file: Evidence) -> str:
    """One narrowed setting: no number of the paper compares with it.

    Other programs on the same cores stretch the time of a CPU, not its processor time; a GPU's work shows in the time alone.
    """
    found = {approach: rows for approach in _APPROACHES if (rows := _trainings(file, approach))}
    everything = [row for rows in found.values() for row in rows]
    on_cpu, on_gpu = any(map(_on_cpu, everything)), not all(map(_on_cpu, everything))
    columns = ["approach", "test accuracy, %", "n", "seeds", "s per epoch"]
    columns += ["processor s per epoch", "processor time, x ST"] if on_cpu else []
    columns += ["time, x ST"] if on_gpu else []
    lines = []
    for approach, rows in found.items():
        standard, cpu = found.get("ST", []), all(map(_on_cpu, rows))
        line = [approach, _accuracy(rows), _images(rows), str(seeds(rows)), number(_per_epoch(rows, "wall_s"))]
        processor = [number(_per_epoch(rows, "cpu_s")), _ratio(rows, standard, "cpu_s")] if cpu else [NOTHING] * 2
        line += processor if on_cpu else []
        line += [NOTHING if cpu else _ratio(rows, standard, "wall_s")] if on_gpu else []
        lines.append(line)
    return table(columns, lines)


def finding(file: Evidence) -> str:
    """Test accuracies in a line."""
    found = [(approach, rows) for approach in _APPROACHES if (rows := _trainings(file, approach))]
    return "test accuracy " + ", ".join(f"{approach} {_accuracy(rows)} %" for approach, rows in found) if found else ""


def _of_case(files: Sequence[Evidence], case: tuple[str, str]) -> Evidence | None:
    return next((file for file in files if (file.model, file.dataset) == case), None)


def _trainings(file: Evidence | None, approach: str) -> list[Row]:
    return [] if file is None else of_kind(file.rows(approach=approach), "training")


def _paper_row(case: tuple[str, str], approach: str, file: Evidence | None) -> list[str]:
    theirs, rows = table_1.TEST_ACCURACY[case].get(approach), _trainings(file, approach)
    hours, ratio = _papers_time(case, approach)
    return [
        ", ".join((*case, approach)),
        NOTHING if theirs is None else _with_deviation(theirs),
        _accuracy(rows),
        NOTHING if theirs is None else signed(fmean(100 * share(row["accuracy"]) for row in rows) - theirs.mean),
        str(seeds(rows)),
        _images(rows),
        hours,
        number(fmean(row["wall_s"] for row in rows) / 60),
        count(round(fmean(row["images_per_s"] for row in rows))),
        ratio,
        _ratio(rows, _trainings(file, "ST"), "wall_s"),
    ]


def _with_deviation(theirs: table_1.MeanAndDeviation) -> str:
    return f"{theirs.mean:.2f} ± {theirs.deviation:.2f}"


def _papers_time(case: tuple[str, str], approach: str) -> tuple[str, str]:
    """The paper's hours, and beside standard training."""
    hours = table_1.TRAINING_HOURS[case]
    return number(hours.get(approach)), number(hours[approach] / hours["ST"]) if approach in hours else NOTHING


def _accuracy(rows: Sequence[Row]) -> str:
    return mean_and_deviation([100 * share(row["accuracy"]) for row in rows])


def _images(rows: Sequence[Row]) -> str:
    return " or ".join(count(n) for n in dict.fromkeys(row["accuracy"]["n"] for row in rows))


def _per_epoch(rows: Sequence[Row], key: str) -> float:
    return fmean(row[key] / row["epochs"] for row in rows)


def _on_cpu(row: Row) -> bool:
    return "cores" in row["trained_on"]["hardware"]


def _ratio(rows: Sequence[Row], standard: Sequence[Row], key: str) -> str:
    """Time beside the standard model's; of runs in the same surroundings only."""
    alike = {_surroundings(row) for row in (*rows, *standard)}
    if not rows or not standard or len(alike) > 1:
        return NOTHING
    return number(_per_epoch(rows, key) / _per_epoch(standard, key))


def _surroundings(row: Row) -> str:
    """Hardware, threads, processes and way of training; a way that is not named, as by older rows, was not chosen."""
    found = {name: row["trained_on"].get(name) for name in _SURROUNDINGS}
    found["execution"] = [way for way, chosen in (found["execution"] or {}).items() if chosen]
    return json.dumps(found, sort_keys=True)
