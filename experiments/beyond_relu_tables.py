"""Networks without ReLU, in tables: what epsilon does to accuracy and size, and how exact composing is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from experiments.evaluation import share
from experiments.evidence import Evidence
from experiments.markdown import count, percent, table
from experiments.results import Row
from experiments.sources import link, sources

__all__ = ["QUESTION", "beyond_relu"]

QUESTION = "beyond-relu"


def beyond_relu(files: Sequence[Evidence], place: Path) -> str:
    """The section, with one table per network; nothing without results."""
    if not files:
        return ""
    text = (
        "## Beyond ReLU and convolutions\n\nGELU and attention are never exactly zero: a unit, or a whole head, is inactive"
        " for an image where it stays within epsilon everywhere. All pairs and ten triples of classes; *error* is the"
        " largest difference between the sliced and the masked model's logits in float64, in units of their spread.\n\n"
    )
    for file in files:
        text += f"### {file.model} on {file.dataset}\n\n{_trainings(file)}\n\n{_epsilons(file)}\n"
    picture = files[0].path.parent / "figures" / f"{QUESTION}-{files[0].dataset}.png"
    text += sources(files, place) + "\n"
    if picture.exists():
        text += f"[![beyond ReLU]({link(picture, place)})]({link(picture.with_suffix('.svg'), place)})\n\n"
    return text


def _trainings(file: Evidence) -> str:
    rows = file.rows(kind="training")
    about = [
        f"{approach} {percent(fmean(share(row['accuracy']) for row in found))} %"
        f" (n = {count(found[0]['accuracy']['n'])}, {len(found)} seed{'s' if len(found) > 1 else ''})"
        for approach in dict.fromkeys(row["approach"] for row in rows)
        if (found := [row for row in rows if row["approach"] == approach])
    ]
    recipe = f"width {rows[0]['width']:g}, {rows[0]['epochs']} epochs, {count(rows[0]['parameters'])} parameters"
    return f"Test accuracy of the whole model ({recipe}): {', '.join(about)}."


def _epsilons(file: Evidence) -> str:
    columns = ["epsilon, approach", "reuse accuracy, %", "uncut model, %", "weights, %", "module size, %", "overlap, %"]
    rows = file.rows(kind="epsilon")
    keys = sorted(dict.fromkeys((row["epsilon"], row["approach"]) for row in rows))
    lines = [_line(key, [row for row in rows if (row["epsilon"], row["approach"]) == key]) for key in keys]
    return table([*columns, "error", "compositions", "n", "seeds"], lines)


def _line(key: tuple[float, str], rows: Sequence[Row]) -> list[str]:
    shares = (
        fmean(share(row["accuracy"]) for row in rows),
        fmean(share(row["whole"]) for row in rows),
        *(fmean(row[name] for row in rows) for name in ("kept", "size", "overlap")),
    )
    return [
        f"{key[0]:g}, {key[1]}",
        *map(percent, shares),
        f"{max(row['error'] for row in rows):.1e}",
        count(rows[0]["compositions"]),
        count(rows[0]["accuracy"]["n"]),
        str(len(rows)),
    ]
