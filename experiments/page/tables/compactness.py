"""RQ3 in tables: what compactness does to accuracy, size and overlap, ours beside table 3 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import ModuleSummary, ReuseSummary, module_summaries, reuse_summaries
from experiments.page.markdown import NOTHING, number, percent, signed, table
from experiments.page.tables.reuse import numbers_of, reuse_rows
from experiments.paper import table_3

__all__ = ["beside_the_paper", "finding", "of_one", "unmeasured", "unmeasured_cases"]

_APPROACHES = ("MODA", "MODA-", "ST-composed")
_Measured = tuple[ReuseSummary, ModuleSummary | None]


def beside_the_paper(files: Sequence[Evidence]) -> str:
    """Table 3, the rows that were measured; sizes as the paper counts, reductions against MODA-."""
    columns = ["model, data set, approach", "reuse, paper", "ours, %", "difference"]
    for name in ("size", "overlap"):
        columns += [f"{name}, paper", "ours", "difference", "reduction, paper, %", "ours, %"]
    columns += ["size as sliced", "sub-tasks", "n", "seeds"]
    cases = [(case, approach, _of_case(files, case)) for case in table_3.COMPOSITION for approach in _APPROACHES]
    rows = [_paper_row(case, approach, file) for case, approach, file in cases if file and approach in _measured(file)]
    return table(columns, rows)


def unmeasured(files: Sequence[Evidence]) -> str:
    """Table 3, the rows that were not."""
    columns = ["model, data set, approach", "reuse, paper, %", "ours", "size, paper", "ours", "overlap, paper", "ours"]
    rows = [
        [
            ", ".join((*case, approach)),
            number(theirs.reuse_accuracy),
            NOTHING,
            number(theirs.module_size, 3),
            NOTHING,
            number(theirs.module_overlap, 3),
            NOTHING,
        ]
        for case, both in table_3.COMPOSITION.items()
        for approach, theirs in both.items()
        if _lacks(_of_case(files, case), approach)
    ]
    return table(columns, rows) if rows else ""


def unmeasured_cases(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets of table 3 that lack an approach, or its modules."""
    return [
        case
        for case, both in table_3.COMPOSITION.items()
        if any(_lacks(_of_case(files, case), approach) for approach in both)
    ]


def of_one(file: Evidence) -> str:
    """RQ3 in one narrowed setting."""
    columns = ["approach", "reuse accuracy, %", "module size, %", "as the paper counts, %", "reduction, %"]
    columns += ["overlap, %", "as the paper counts, %", "reduction, %", "sub-tasks", "n", "seeds"]
    measured = _measured(file)
    lines = []
    for approach, (one, found) in measured.items():
        size, overlap = _reductions(approach, measured)
        shares = [found.size, found.size_undropped] if found else [None] * 2
        shared = [found.overlap, found.overlap_undropped] if found else [None] * 2
        own = [row for row in reuse_rows(file) if row["approach"] == approach]
        cells = [*map(percent, shares), number(size), *map(percent, shared), number(overlap)]
        lines.append([approach, percent(one.accuracy), *cells, *numbers_of(own)])
    return table(columns, lines)


def finding(file: Evidence) -> str:
    """The reductions in a line."""
    measured = _measured(file)
    size, overlap = _reductions("MODA", measured)
    if size is None:
        return ""
    change = 100 * (measured["MODA"][0].accuracy - measured["MODA-"][0].accuracy)
    return (
        f"compactness makes modules {number(size)} % smaller and their overlap {number(overlap)} % less,"
        f" as the paper counts, at {signed(change)} points of reuse accuracy"
    )


def _of_case(files: Sequence[Evidence], case: tuple[str, str]) -> Evidence | None:
    return next((file for file in files if (file.model, file.dataset) == case), None)


def _measured(file: Evidence) -> dict[str, _Measured]:
    """Reuse and modules by approach."""
    modules = module_summaries(file.rows())
    summaries = reuse_summaries(reuse_rows(file))
    return {one.approach: (one, modules.get((one.approach, one.threshold or ""))) for one in summaries}


def _lacks(file: Evidence | None, approach: str) -> bool:
    return file is None or _measured(file).get(approach, (None, None))[1] is None


def _paper_row(case: tuple[str, str], approach: str, file: Evidence) -> list[str]:
    theirs, measured = table_3.COMPOSITION[case].get(approach), _measured(file)
    one, found = measured[approach]
    printed = table_3.REDUCTIONS[case] if approach == "MODA" else None
    size, overlap = _reductions(approach, measured)
    own = [row for row in reuse_rows(file) if row["approach"] == approach]
    return [
        ", ".join((*case, approach)),
        *_compared(theirs.reuse_accuracy if theirs else None, 100 * one.accuracy, 2),
        *_compared(theirs.module_size if theirs else None, found.size_undropped if found else None, 3),
        number(printed.size if printed else None),
        number(size),
        *_compared(theirs.module_overlap if theirs else None, found.overlap_undropped if found else None, 3),
        number(printed.overlap if printed else None),
        number(overlap),
        number(found.size if found else None, 3),
        *numbers_of(own),
    ]


def _reductions(approach: str, measured: dict[str, _Measured]) -> tuple[float | None, float | None]:
    """How much smaller MODA's modules and overlaps are than MODA-'s as the paper counts, in percent; None of others."""
    ours, without = (measured.get(name, (None, None))[1] for name in ("MODA", "MODA-"))
    if approach != "MODA" or ours is None or without is None:
        return None, None
    return (
        100 * (1 - ours.size_undropped / without.size_undropped),
        100 * (1 - ours.overlap_undropped / without.overlap_undropped) if without.overlap_undropped else None,
    )


def _compared(theirs: float | None, ours: float | None, digits: int) -> list[str]:
    difference = None if theirs is None or ours is None else ours - theirs
    return [number(theirs, digits), number(ours, digits), signed(difference, digits)]
