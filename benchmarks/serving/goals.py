"""What we set out to reach, and whether it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.serving.results import METRICS, Comparison, Results
from benchmarks.serving.rounds import Cell

__all__ = ["goals"]

_CONNECTIONS = (1, 32)
_RATES = {"multipart": 2.0, "raw": 3.0}
_OF_EXECUTABLE = 0.9
Row = dict[str, Any]


def goals(results: Results) -> list[Row]:
    """One row for each goal that was measured."""
    return [*_tiny(results), *_resnet18(results), *_servers(results)]


def _tiny(results: Results) -> Iterator[Row]:
    for form, wanted in _RATES.items():
        for connections in _CONNECTIONS:
            cell = Cell("tiny", "module", form, connections)
            where = f"tiny, {form}, {connections} connections"
            yield from _row(
                f"{where}: requests/s of the best peer's", results.beside_best(cell, METRICS["req/s"]), wanted
            )
            yield from _row(
                f"{where}: p99 of the best peer's", results.beside_best(cell, METRICS["p99 ms"]), 0.5, at_most=True
            )


def _resnet18(results: Results) -> Iterator[Row]:
    for connections in (1, 8, 32, 128):
        where = f"resnet18, {connections} connections"
        alone = results.beside_executable("resnet18", connections)
        yield from _row(f"{where}: requests/s of the executable's own", alone, _OF_EXECUTABLE)
        given = results.beside_best(Cell("resnet18", "executable", "multipart", connections), METRICS["req/s"])
        yield from _not_below(f"{where}: not below the best peer given our executable", given)


def _servers(results: Results) -> Iterator[Row]:
    for model in ("tiny", "resnet18"):
        if all(model in visit.memory_mb for visit in results.visits):
            memory = results.server_beside_best(lambda visit, model=model: visit.memory_mb[model])  # type: ignore[misc]
            yield from _row(f"memory of all processes, {model}: below the least peer's", memory, 1.0, at_most=True)
    start = results.server_beside_best(lambda visit: visit.start_s)
    yield from _row("start: below the fastest peer's", start, 1.0, at_most=True)


def _row(name: str, found: Comparison | None, wanted: float, *, at_most: bool = False) -> Iterator[Row]:
    if found:
        verdict = found.ratio.against(wanted, at_most=at_most)
        yield _stated(name, f"{'<=' if at_most else '>='} {wanted}", found, verdict)


def _not_below(name: str, found: Comparison | None) -> Iterator[Row]:
    if found:
        verdict = "not met" if found.difference == "ours less" else "met" if found.ratio.enough else "too few rounds"
        yield _stated(name, ">= 1, or no difference", found, verdict)


def _stated(name: str, wanted: str, found: Comparison, verdict: str) -> Row:
    return {"goal": name, "beside": found.other, "wanted": wanted, "ratio": found.ratio.text(), "verdict": verdict}
