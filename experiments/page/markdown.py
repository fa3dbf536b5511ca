"""Text of tables: numbers with their digits, and Markdown that reads well as it is, too."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

__all__ = ["NOTHING", "count", "mean_and_deviation", "number", "percent", "signed", "table"]

NOTHING = ""
"""A cell that was not measured."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    widths = [max(len(row[place]) for row in [columns, *rows]) for place in range(len(columns))]
    rule = ["-" * max(3, widths[0]), *("-" * max(2, width - 1) + ":" for width in widths[1:])]
    lines = [columns, rule, *rows]
    return "\n".join("| " + " | ".join(_padded(row, widths)) + " |" for row in lines) + "\n"


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def number(value: float | None, digits: int = 2) -> str:
    """``12.34``, or nothing; never ``-0.00``."""
    return NOTHING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 as ``93.10``, without the sign."""
    return NOTHING if share is None else number(100 * share, digits)


def signed(value: float | None, digits: int = 2) -> str:
    """``+0.12``, ``-3.40``, or nothing; never ``-0.00``."""
    if value is None:
        return NOTHING
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def count(value: int) -> str:
    """``14,697``."""
    return f"{value:,}"


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """``93.10 ± 0.07``, the sample's deviation; of one value the mean alone, of none nothing."""
    if not values:
        return NOTHING
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean
