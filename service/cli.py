"""The `moda` command. Each command calls one function of the client, or of `moda_core` with ``--local``."""

from __future__ import annotations

import sys

import typer

from moda_core.errors import ModaError
from service.commands import datasets, models, running, training, using, work
from service.commands.terminal import EXIT_STATUSES, fail

__all__ = ["app", "main"]

_EXITS = "; ".join(f"{status} {meaning}" for status, meaning, _ in EXIT_STATUSES)

app = typer.Typer(
    name="moda",
    help="Train an image classifier to be modular, cut it into modules, compose small models, serve and patch them.",
    epilog=f"Exit status: 0 done; {_EXITS}; 1 anything else.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
dataset = typer.Typer(help="Import and list data sets.", no_args_is_help=True)

_RUN, _MAKE, _USE, _LOOK = "Run", "Data and training", "Compose and use", "Look"
app.command(rich_help_panel=_RUN)(running.up)
app.command(rich_help_panel=_RUN)(running.demo)
app.add_typer(dataset, name="dataset", rich_help_panel=_MAKE)
dataset.command("add")(datasets.add)
dataset.command("list")(datasets.list_all)
app.command(rich_help_panel=_MAKE)(training.train)
app.command(rich_help_panel=_MAKE)(training.decompose)
app.command(rich_help_panel=_MAKE)(training.evaluate)
app.command(rich_help_panel=_USE)(using.compose)
app.command(rich_help_panel=_USE)(using.predict)
app.command(rich_help_panel=_USE)(training.replace)
app.command(rich_help_panel=_USE)(models.download)
app.command("models", rich_help_panel=_LOOK)(models.list_all)
app.command(rich_help_panel=_LOOK)(models.modules)
app.command(rich_help_panel=_LOOK)(work.jobs)
app.command(rich_help_panel=_LOOK)(work.cancel)


def main() -> None:
    """Run the command line, and end with a status that means something."""
    try:
        app(prog_name="moda")
    except ModaError as error:
        sys.exit(fail(error))


if __name__ == "__main__":
    main()
