"""What a benchmark was run on, and how its tables are printed and kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table

from experiments.records.conditions import commit, portable

__all__ = ["Report", "conditions", "parser", "spread"]

_WIDTH = 160


@dataclass(frozen=True)
class Report:
    """A benchmark's tables: rows of named columns, under a title each, with the conditions of the run."""

    name: str
    conditions: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    summary: Mapping[str, Any]

    def show(self) -> None:
        """Print the tables for people."""
        console = Console(width=None if sys.stdout.isatty() else _WIDTH)
        console.print(
            f"[bold]{self.name}[/bold]  " + "  ".join(f"{key} {value}" for key, value in self.conditions.items())
        )
        for title, rows in self.tables.items():
            console.print(_table(title, rows))
        for key, value in self.summary.items():
            console.print(f"{key}: {value}")

    def write(self, path: Path) -> None:
        """Write the same as JSON."""
        content = {
            "benchmark": self.name,
            "conditions": self.conditions,
            "tables": self.tables,
            "summary": self.summary,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def conditions(**more: Any) -> dict[str, Any]:
    """Versions, commit, cores and the moment, and whatever else the benchmark says about itself."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *map(portable, sys.argv[1:])]),
        **more,
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the tables here as JSON too")
    options.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all cores)")
    return options


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median, ordered[0], ordered[-1]


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " to ".join(_cell(one) for one in value)
    if isinstance(value, float):
        return f"{value:.1e}" if value and not 1e-2 <= abs(value) < 1e6 else f"{value:.2f}"
    return str(value)
