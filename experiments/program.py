"""How an experiment ends: with its results, one clear line, or a stop that loses nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable

from moda_core.errors import ModaError

__all__ = ["run"]

_BAD_INPUT, _STOPPED = 2, 130


def run(program: Callable[[], None]) -> None:
    """Run a program to its end.

    Raises:
        SystemExit: 2 for what MODA refuses, 130 when it was stopped from the keyboard.
    """
    try:
        program()
    except ModaError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(_BAD_INPUT) from error
    except KeyboardInterrupt as stop:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(_STOPPED) from stop
