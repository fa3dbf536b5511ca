"""A program to run, and whether its results are there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Measurement"]


@dataclass(frozen=True)
class Measurement:
    """A program to run, and whether its results are there.

    Attributes:
        program: as after ``python -m``.
        done: reads the result files, every time anew.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    done: Callable[[], bool]

    def command(self) -> list[str]:
        """What is run here."""
        return [sys.executable, "-m", self.program, *self.arguments]

    def shown(self) -> list[str]:
        """The same as a person would type it."""
        return ["python", "-m", self.program, *self.arguments]
