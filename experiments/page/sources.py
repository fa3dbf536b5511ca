"""Where the numbers of a table come from: file, hardware, versions, commit, command; and what is still missing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.evidence.files import Evidence
from experiments.page.markdown import count
from experiments.records.result_file import Row

__all__ = ["figures", "hardware_of", "link", "setting_name", "sources", "to_measure", "unmeasured"]


def link(path: Path, place: Path) -> str:
    """A link from the page, which lies in the folder `place`."""
    return Path(os.path.relpath(path, place)).as_posix()


def sources(files: Iterable[Evidence], place: Path) -> str:
    """One item per file: what it was measured on, by which commands, and what failed."""
    return "".join(
        f"- [`{file.path.name}`]({link(file.path, place)}): {_measured(file)}\n{_failures(file)}" for file in files
    )


def figures(file: Evidence, place: Path, *, names: Sequence[str]) -> str:
    """The pictures of a file that were drawn, each linked to its vector form."""
    found = [(name, file.path.parent / "figures" / f"{file.path.stem}-{name}.png") for name in names]
    return "".join(
        f"[![{file.path.stem}, {name}]({link(path, place)})]({link(path.with_suffix('.svg'), place)})\n\n"
        for name, path in found
        if path.exists()
    )


def unmeasured(cases: Sequence[tuple[str, str]], command: str) -> str:
    """Which models on which data sets have empty cells, and the command that fills them."""
    models = dict.fromkeys(model for model, _ in cases)
    return to_measure(
        [f"{model} on {', '.join(dataset for other, dataset in cases if other == model)}" for model in models], command
    )


def to_measure(lacking: Sequence[str], command: str) -> str:
    """What is lacking, in words, and the command that measures it."""
    if not lacking:
        return ""
    return f"Lacking: {'; '.join(lacking)}. To measure, for each MODEL and DATASET:\n\n    {command}\n\n"


def setting_name(dataset: str, model: str, width: float, epochs: int) -> str:
    """A setting as headings name it."""
    return f"{dataset}, {model}, width {width:g}, {epochs} epochs"


def hardware_of(files: Iterable[Evidence]) -> str:
    """What files were measured on."""
    return _joined(_hardware(place) for file in files for place in _places(file))


def _measured(file: Evidence) -> str:
    places = _places(file)
    days = sorted({date[:10] for date in file.stated("date")})
    about = [
        hardware_of([file]),
        _joined(f"torch {place['torch']}" for place in places),
        "commit " + _joined(f"`{place['commit']}`" for place in places),
        *_images(file),
        *([days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"] if days else []),
    ]
    return "; ".join([", ".join(about), *(f"`{command}`" for command in file.stated("command"))])


def _failures(file: Evidence) -> str:
    """What could not be measured, and why; ways of training that do not work stand in their table."""
    found = dict.fromkeys(
        f"{row['approach']}, {about}: {row['error']}"
        for row in file.failures
        if "approach" in row
        for about in [", ".join(f"{name} {row[name]}" for name in ("seed", "weak", "target") if name in row)]
    )
    return "".join(f"  - failed: {said}\n" for said in found)


def _images(file: Evidence) -> list[str]:
    """Of the data sets, where conditions state them."""
    stated = [row["dataset"] for row in file.conditions if isinstance(row.get("dataset"), dict)]
    return list(
        dict.fromkeys(
            f"{count(data['train'])} training and {count(data['test'])} test images"
            for data in stated
            if {"train", "test"} <= data.keys()
        )
    )


def _hardware(place: Row) -> str:
    if "cores" not in place["hardware"]:
        return str(place["hardware"])
    threads = place["threads"]
    return f"{place['hardware']} ({threads} thread{'s' if threads > 1 else ''})"


def _places(file: Evidence) -> list[Row]:
    """The conditions of the rows, those of their training included."""
    trained = [row[name] for row in file.rows() for name in ("trained_on", "weak_trained_on") if name in row]
    return [*trained, *file.conditions]


def _joined(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))
