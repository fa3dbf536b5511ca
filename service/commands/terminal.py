"""How `moda` speaks: tables for people, JSON for programs, errors with an exit status that means something.

Results go to standard output, everything else to standard error. Colour and boxes are rich's affair:
it leaves them out where the output is no terminal, and colour where NO_COLOR is set.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from moda_core import errors

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = ["EXIT_STATUSES", "exit_status", "fail", "note", "shares", "show", "table", "to_people", "to_programs"]

EXIT_STATUSES: Final[tuple[tuple[int, str, tuple[type[errors.ModaError], ...]], ...]] = (
    (2, "wrong usage or input that cannot be used", (errors.InvalidInput,)),
    (3, "something named does not exist", (errors.NotFound,)),
    (4, "the present state forbids it", (errors.Conflict, errors.PreconditionFailed)),
    (5, "the service or a part of it cannot be reached", (errors.Unavailable,)),
)
_PIPED_WIDTH = 160


def exit_status(error: errors.ModaError) -> int:
    """The exit status for an error: by `EXIT_STATUSES`, and 1 for all others."""
    return next((status for status, _, kinds in EXIT_STATUSES if isinstance(error, kinds)), 1)


def to_people(*, stderr: bool = False) -> Console:
    """A console on standard output (or error), wide enough for whole tables when it is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(file=stream, width=_PIPED_WIDTH if piped else None, highlight=False)


def to_programs(data: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def show(data: Any, *, as_json: bool, people: Callable[[], RenderableType]) -> None:
    """A result, in the form that was asked for."""
    if as_json:
        to_programs(data)
    else:
        to_people().print(people())


def note(text: str) -> None:
    """A remark beside the results."""
    to_people(stderr=True).print(text, markup=False, soft_wrap=True)


def fail(error: errors.ModaError) -> int:
    """Say what went wrong on standard error; the exit status to end with."""
    from rich.text import Text

    to_people(stderr=True).print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
    return exit_status(error)


def table(*columns: str, rows: Iterable[Sequence[object]], title: str | None = None, empty: str = "none") -> Table:
    """A table; columns whose name begins with ``>`` are numbers, right-aligned. `empty` is said when it has no rows."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    if not made.row_count:
        made.caption, made.caption_justify = empty, "left"
    return made


def shares(value: float | None) -> str:
    """A share as per cent with one decimal; a dash when it is not known."""
    return "-" if value is None else f"{100 * value:.1f} %"


def _cell(value: object) -> RenderableType:
    from rich.text import Text

    return Text("-" if value is None else str(value))
