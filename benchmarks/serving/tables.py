"""The results as tables for people, and as rows that hold every round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.serving.contestants import OURS
from benchmarks.serving.goals import goals
from benchmarks.serving.intervals import interval
from benchmarks.serving.results import METRICS, Results
from benchmarks.serving.rounds import Cell

__all__ = ["markdown", "rounds_of", "tables"]

Row = dict[str, Any]
_NO_FIGURE = "-"


def tables(results: Results, more: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """All tables by their titles, the goals first; those without rows are left out."""
    found = {
        "Goals (ratio = ours / theirs, paired by rounds; median [95 % interval])": goals(results),
        "Ours beside the best peer of each cell, peers with the plain module": _beside_best(results, "module"),
        "Ours beside the best peer given our executable": _beside_best(results, "executable"),
        "ResNet18: our service beside the same executable without a server": _beside_executable(results),
        "Start, stop and memory": _servers(results),
        **more,
        "Every server in every cell": _everything(results),
    }
    return {title: rows for title, rows in found.items() if rows}


def rounds_of(results: Results) -> list[Row]:
    """Every cell of every visit, as measured."""
    return [
        {
            "round": visit.number + 1,
            "server": visit.contestant,
            **asdict(found.cell),
            **{name: round(metric.of(found), 3) for name, metric in METRICS.items()},
            "requests": found.load.requests,
            "errors": found.load.errors,
        }
        for visit in results.visits
        for found in visit.measured
    ]


def markdown(name: str, conditions: dict[str, Any], found: dict[str, list[Row]], notes: Sequence[str]) -> str:
    """The same tables as a page."""
    lines = [f"# {name}", "", *(f"- {key}: {_said(value)}" for key, value in conditions.items()), "", *notes]
    for title, rows in found.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += ["", f"## {title}", "", _line(columns), _line(["---"] * len(columns))]
        lines += [_line([str(row.get(column, _NO_FIGURE)) for column in columns]) for row in rows]
    return "\n".join(lines) + "\n"


def _said(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{key} {_said(one)}" if not isinstance(one, dict) else f"{key}: {_said(one).replace(';', ',')}"
            for key, one in value.items()
        )
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _beside_best(results: Results, way: str) -> list[Row]:
    rows = []
    for own in results.cells(OURS):
        cell = Cell(own.model, way, own.form, own.connections)
        rate, p99 = (results.beside_best(cell, METRICS[name]) for name in ("req/s", "p99 ms"))
        if rate and p99:
            rows.append(
                {**_where(cell), "ours req/s": rate.ours.text(".0f"), "best peer": rate.other,
                 "its req/s": rate.theirs.text(".0f"), "ratio": rate.ratio.text(), "difference": rate.difference,
                 "ours p99 ms": p99.ours.text(".1f"), "best p99 ms": f"{p99.theirs.text('.1f')} ({p99.other})",
                 "ratio of p99": p99.ratio.text(), "difference of p99": p99.difference}
            )  # fmt: skip
    return rows


def _beside_executable(results: Results) -> list[Row]:
    found = {connections: results.beside_executable("resnet18", connections) for connections in (1, 8, 32, 128)}
    return [
        {"connections": connections, "ours req/s": one.ours.text(".1f"), "executable": one.other,
         "its images/s": one.theirs.text(".1f"), "ratio": one.ratio.text(), "difference": one.difference}
        for connections, one in found.items() if one
    ]  # fmt: skip


def _servers(results: Results) -> list[Row]:
    rows = []
    for name in results.contestants:
        visits = results.rounds(name)
        stops = [visit.stopped.stop_s for visit in visits if visit.stopped.stop_s is not None]
        memory = {
            f"memory MB, {model}": interval([visit.memory_mb[model] for visit in visits]).text(".0f")
            for model in visits[0].memory_mb
        }
        rows.append(
            {"server": name, "start s": interval([visit.start_s for visit in visits]).text(),
             "stop s": interval(stops).text() if len(stops) == len(visits) else f"{len(visits) - len(stops)} times killed",
             "processes left": max(visit.stopped.left for visit in visits),
             "requests lost": max(visit.stopped.lost for visit in visits),
             "cut": max(visit.stopped.cut for visit in visits), **memory, "errors": results.errors(name)}
        )  # fmt: skip
    return rows


def _everything(results: Results) -> list[Row]:
    return [
        {
            "server": name,
            "runs": cell.way,
            **_where(cell),
            **{metric.name: interval(results.values(name, cell, metric)).text() for metric in METRICS.values()},
            "errors": results.errors(name, cell),
        }
        for name in results.contestants
        for cell in results.cells(name)
    ]


def _where(cell: Cell) -> Row:
    return {"model": cell.model, "form": cell.form, "connections": cell.connections}
