"""How fast training is: the tables of the benchmark, as it kept them, with the conditions of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.markdown import NOTHING, count, table
from experiments.sources import link
from moda_core.errors import UnreadableFile
from moda_core.files import parse_json

__all__ = ["speed"]

_FILES = "training-overhead*.json"
_COMMAND = "python -m benchmarks.training_overhead --model resnet18 --epochs 2"
_PAPER = "The paper's overheads against standard training, by its own hours: MODA 1.41 x, MwT 2.06 x (table 1)."


def speed(folder: Path, place: Path) -> str:
    """The section; `folder` holds the benchmark's results."""
    text = f"## Speed of training\n\n{_PAPER}\n\n"
    paths = sorted(folder.glob(_FILES))
    if not paths:
        return f"{text}Not measured yet. To measure:\n\n    {_COMMAND}\n\n"
    return text + "".join(_one(path, place) for path in paths)


def _one(path: Path, place: Path) -> str:
    """The tables of one run of the benchmark, and where they come from."""
    report = _read(path)
    text = "".join(f"{title}:\n\n{_rows(rows)}\n" for title, rows in report["tables"].items() if rows)
    text += "".join(f"- {name}: {_cell(value)}\n" for name, value in report.get("summary", {}).items())
    stated = report["conditions"]
    about = ", ".join(f"{name} {value}" for name, value in stated.items() if name not in {"command", "commit", "date"})
    from_where = f"[`{path.name}`]({link(path, place)}): {about}, commit `{stated['commit']}`, {stated['date']}"
    return f"{text}- {from_where}; `{stated['command']}`\n\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        report = parse_json(path.read_bytes())
        return {**report, "tables": dict(report["tables"]), "conditions": dict(report["conditions"])}
    except (ValueError, KeyError, TypeError) as error:
        problem = f"it is no benchmark's report: {error}"
        raise UnreadableFile("benchmark", path.name, problem, "write it with --json") from error


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return table(columns, [[_cell(row.get(name)) for name in columns] for row in rows])


def _cell(value: object) -> str:
    """As it is, numbers with a fraction to three digits or more."""
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return count(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
