"""How fast training is: ways of training on a device, and the tables of the benchmark as it kept them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from experiments.evidence import Evidence
from experiments.markdown import NOTHING, count, number, table
from experiments.results import Row
from experiments.sources import link, sources
from experiments.trainer_speed import WAYS
from moda_core.errors import UnreadableFile
from moda_core.files import parse_json

__all__ = ["speed"]

_FILES = "training-overhead*.json"
_COMMAND = "python -m benchmarks.training_overhead --model resnet18 --epochs 2"
_EPOCHS_OF_IMAGES = 200 * 50_000
_PEAK = {"H100": 989e12, "H200": 989e12}
"""Dense bfloat16 operations a second, by the maker's data sheet."""
_PAPER = "The paper's overheads against standard training, by its own hours: MODA 1.41 x, MwT 2.06 x (table 1)."


def speed(files: Sequence[Evidence], folder: Path, place: Path) -> str:
    """The section; `files` hold ways of training, `folder` the benchmark's results."""
    text = f"## Speed of training\n\n{_PAPER}\n\n"
    paths = sorted(folder.glob(_FILES))
    if not paths and not files:
        return f"{text}Not measured yet. To measure:\n\n    {_COMMAND}\n\n"
    return text + "".join(_ways(file, place) for file in files) + "".join(_one(path, place) for path in paths)


def _ways(file: Evidence, place: Path) -> str:
    """Each way of training, its modular rate beside the fastest standard one of any way."""
    found = {way: file.rows(kind="speed", execution=way) for way in WAYS}
    standard = max((_rate(rows, "ST") or 0.0 for rows in found.values()), default=0.0)
    columns = [
        "way",
        "ST, images/s",
        "MODA, images/s",
        "x ST",
        "x fastest ST",
        "of the chip's rate, %",
        "200 x 50,000 images, min",
    ]
    lines = [_way(way, rows, standard, file) for way, rows in found.items() if rows]
    title = f"{file.model} on {file.dataset}, width {file.width:g}, batch {_batch(file)}"
    return f"{title}; medians of epochs:\n\n{table(columns, lines)}\n{sources([file], place)}\n"


def _way(way: str, rows: Sequence[Row], standard: float, file: Evidence) -> list[str]:
    ours, theirs = _rate(rows, "MODA"), _rate(rows, "ST")
    name = way.replace(",", ", ") or "step by step"
    if ours is None or theirs is None:
        return [f"{name}: does not work here", *[NOTHING] * 6]
    peak = next((peak for chip, peak in _PEAK.items() if any(chip in one for one in file.stated("hardware"))), None)
    flops = next(row["flops"] for row in rows if "flops" in row)
    return [
        name,
        count(round(theirs)),
        count(round(ours)),
        number(theirs / ours),
        number(standard / ours),
        NOTHING if peak is None else number(100 * ours * flops / peak, 1),
        number(_EPOCHS_OF_IMAGES / ours / 60, 1),
    ]


def _rate(rows: Sequence[Row], approach: str) -> float | None:
    found = [median(row["images_per_s"]) for row in rows if row.get("approach") == approach]
    return median(found) if found else None


def _batch(file: Evidence) -> str:
    return " or ".join(dict.fromkeys(str(row["batch_size"]) for row in file.rows() if "batch_size" in row))


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
