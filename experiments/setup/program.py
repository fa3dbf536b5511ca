"""How an experiment begins and ends: with help that says what it does; with its results, one line, or a stop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from moda_core.errors import ModaError

__all__ = ["program_parser", "run"]

_BAD_INPUT, _STOPPED = 2, 130


def program_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The command line of a program that is called by `name`; `about` it as it is written, its examples too."""
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=name, description=about, formatter_class=form)


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
