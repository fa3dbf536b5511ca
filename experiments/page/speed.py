"""How fast training is: ways of training on a device, and the tables of the benchmark as it kept them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.evidence.files import Evidence
from experiments.models.ways import WAYS
from experiments.page.markdown import NOTHING, count, number, percent, table
from experiments.page.sources import link, sources
from experiments.paper import table_1
from experiments.records.result_file import Row
from moda_core.errors import UnreadableFile
from moda_core.files import parse_json

__all__ = ["finding", "speed", "unmeasured"]

_FILES = "training-overhead*.json"
_COMMAND = "python -m benchmarks.training_overhead --model resnet18 --epochs 2"
_EPOCHS_OF_IMAGES = 200 * 50_000


def speed(files: Sequence[Evidence], folder: Path, place: Path) -> str:
    """The section, nothing without results; `files` hold ways of training, `folder` the benchmark's results."""
    paths = sorted(folder.glob(_FILES))
    if not paths and not files:
        return ""
    text = f"## Speed of training\n\n{_papers()}\n\n"
    return text + "".join(_ways(file, place) for file in files) + "".join(_one(path, place) for path in paths)


def unmeasured(files: Sequence[Evidence], folder: Path) -> str:
    """The commands that measure it, where nothing was."""
    if files or any(folder.glob(_FILES)):
        return ""
    return f"### Speed of training\n\n{_papers()} To measure ours:\n\n    {_COMMAND}\n\n"


def finding(file: Evidence) -> str:
    """The fastest modular way, in a line."""
    rows = file.rows(kind="speed", approach="MODA")
    standard = [row["images_per_s"] for row in file.rows(kind="speed", approach="ST")]
    if not rows or not standard:
        return ""
    best = max(row["images_per_s"] for row in rows)
    return f"modular training at {count(round(best))} images/s, {number(max(standard) / best, 3)} x the fastest standard one"


def _papers() -> str:
    moda, mwt = (
        fmean(hours[approach] / hours["ST"] for hours in table_1.TRAINING_HOURS.values())
        for approach in ("MODA", "MwT")
    )
    return f"The paper's time against standard training, mean over table 1: MODA {number(moda)} x, MwT {number(mwt)} x."


def _ways(file: Evidence, place: Path) -> str:
    """Each way of training, its modular rate beside the fastest standard one of any way."""
    every = [*file.rows(kind="speed"), *file.failures]
    found = {way: {row.get("approach"): row for row in every if row["execution"] == way} for way in WAYS}
    standard = max((rows["ST"]["images_per_s"] for rows in found.values() if "ST" in rows), default=0.0)
    columns = ["way", "ST, images/s", "MODA, images/s", "x ST", "quartiles", "x fastest ST", "naive, x ST"]
    columns += ["of the chip's rate, %", "200 x 50,000 images, min"]
    lines = [_way(way, rows, standard) for way, rows in found.items() if rows]
    batch = " or ".join(dict.fromkeys(str(row["batch_size"]) for row in file.rows() if "batch_size" in row))
    title = f"{file.model} on {file.dataset}, width {file.width:g}, batch {batch}: steps alone, in turn, medians"
    return f"{title}:\n\n{table(columns, lines)}\n{sources([file], place)}\n"


def _way(way: str, rows: Mapping[str | None, Row], standard: float) -> list[str]:
    name = way.replace(",", ", ") or "step by step"
    if "MODA" not in rows:
        return [f"{name}: does not work here", *[NOTHING] * 8]
    ours, naive = rows["MODA"], rows.get("MODA-naive")
    quartiles = ours["ratio_quartiles"]
    return [
        name,
        count(round(rows["ST"]["images_per_s"])),
        count(round(ours["images_per_s"])),
        number(ours["ratio"], 3),
        f"{quartiles[0]:.3f} to {quartiles[1]:.3f}" if quartiles else NOTHING,
        number(standard / ours["images_per_s"], 3),
        NOTHING if naive is None else number(naive["ratio"], 3),
        percent(ours["share_of_peak"], 1),
        number(_EPOCHS_OF_IMAGES / ours["images_per_s"] / 60, 1),
    ]


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
    if isinstance(value, list | tuple):
        return " to ".join(_cell(one) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return count(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
