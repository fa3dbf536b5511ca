"""How figures look, and how they are written: alike everywhere, and byte for byte the same on every run.

SVG and PNG of one content have the same bytes: no date, fixed ids, no state of pyplot's.
Approaches keep their colour (Okabe and Ito's, told apart by the colour-blind), marker and line
everywhere, so that a figure can be read in black and white too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["FORMATS", "Look", "label", "legend", "line", "look_of", "panels", "save"]

FORMATS = ("svg", "png")
_DPI = 150
_STYLE: Any = {
    "svg.hashsalt": "moda",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Look:
    """How an approach is drawn."""

    colour: str
    marker: str
    line: str = "-"


_LOOKS = {
    "ST": Look("#000000", "o"),
    "ST-composed": Look("#808080", "s", "--"),
    "MwT": Look("#E69F00", "v", "-."),
    "MwT+ft": Look("#D55E00", "^", ":"),
    "MODA": Look("#0072B2", "D"),
    "MODA-": Look("#56B4E9", "X", "--"),
}
_OTHER = Look("#009E73", "P", ":")


def look_of(approach: str) -> Look:
    """The look of an approach, the same in every figure."""
    return _LOOKS.get(approach, _OTHER)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format; the same figure has the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{form}" for form in FORMATS]
    with rc_context(_STYLE):
        for path in paths:
            nobody: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(path, dpi=_DPI, metadata=nobody)
    return paths


def panels(*, width: float, height: float, columns: int = 1, rows: int = 1, **shared: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure in inches, and its panels row by row."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, list(grid.flat)


def line(axes: Axes, approach: str, x: Sequence[float], y: Sequence[float], every: int = 1) -> None:
    """Draw an approach's line, with a marker at every so many points."""
    look = look_of(approach)
    axes.plot(x, y, look.line, marker=look.marker, color=look.colour, label=approach, linewidth=1.3, markevery=every)


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def legend(figure: Figure, axes: Axes) -> None:
    """Name the approaches of a panel above the figure, where there are several."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(
            handles,
            names,
            loc="outside upper center",
            ncols=len(names),
            handletextpad=0.4,
            columnspacing=1.2,
            frameon=False,
        )
