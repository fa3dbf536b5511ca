"""Ways of training: which were timed on such hardware, and which of them is the fastest."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.records.conditions import hardware
from experiments.records.result_file import ResultFile, Row

__all__ = ["EPOCHS", "QUESTION", "STEPS", "WAYS", "fastest", "steps_of", "timed", "tried"]

QUESTION = "overhead"
WAYS = ("", "compiled", "captured", "compiled,captured")
"""Ways of training, as ``--execution`` takes them; the first is step by step."""

EPOCHS = 2
"""That a way is timed for, as its result file is named."""

STEPS = {"standard": "ST", "modular": "MODA", "naive": "MODA-naive"}
"""Kinds of steps, and how rows name them."""


def tried(file: Path, way: str, device: str) -> bool:
    """Whether a way has all its rows of such a device, be it the one that it does not work."""
    found = timed(ResultFile(file), way, device)
    return None in found or found >= {STEPS[step] for step in steps_of(way)}


def fastest(file: Path, device: str) -> str:
    """The way with the most images per second in modular training here; step by step where none was timed."""
    rows = [row for row in _here(ResultFile(file), device) if row.get("approach") == "MODA"]
    return max(rows, key=lambda row: row["images_per_s"])["execution"] if rows else WAYS[0]


def timed(file: ResultFile, way: str, device: str) -> set[str | None]:
    """What was timed in a way; None stands for an error."""
    return {row.get("approach") for row in _here(file, device) if row["execution"] == way}


def steps_of(way: str) -> tuple[str, ...]:
    """Kinds of steps that are timed in a way; the naive one cannot be compiled or captured."""
    return tuple(STEPS) if way == WAYS[0] else ("standard", "modular")


def _here(file: ResultFile, device: str) -> list[Row]:
    """The rows that were measured on such hardware, under this torch."""
    here = (hardware(device), str(torch.__version__))
    stated = [row for row in file.rows() if row.get("kind") == "conditions"]
    alike = {row["id"] for row in stated if (row["hardware"], row["torch"]) == here}
    return [row for row in file.measured() if row.get("conditions") in alike]
