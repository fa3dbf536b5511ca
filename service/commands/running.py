"""`moda up` and `moda demo`: the whole product on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from service.commands.options import DEFAULT_HOME, AsJson, Device, Home

__all__ = ["demo", "up"]


def up(
    *,
    home: Home = DEFAULT_HOME,
    host: Annotated[str, typer.Option("--host", envvar="MODA_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", envvar="MODA_PORT", min=0, max=65_535, help="0 takes a free one.")
    ] = 8000,
    device: Device = "auto",
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            envvar="MODA_PROCESSES",
            min=1,
            max=256,
            help="Of the service, on one port (Linux): small models on a CPU use a core each.",
        ),
    ] = 1,
) -> None:
    """Run Redis, a worker and the service here until Ctrl-C.

    Their logs lie below the home's folder logs. With MODA_REDIS_URL set, that Redis is used instead of one of its own.
    """
    from service.up import Place, run

    place = Place(
        home=home.expanduser(),
        host=host,
        port=port,
        device=device,
        processes=processes,
        redis_url=os.environ.get("MODA_REDIS_URL") or None,
    )
    run(place)


def demo(
    *,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Repeat with this many seeds.")] = 1,
    home: Annotated[
        Path | None, typer.Option("--home", help="Keep models and jobs here instead of in a folder that is removed.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write the report to.")] = Path("demo-report"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the training: shows that everything works, reaches no goal.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show everything on real handwritten digits, and write a report with a picture."""
    from service.demo.run import Plan, run

    plan = Plan(seeds=seeds, home=home and home.expanduser(), out=out, quick=quick, device=device)
    run(plan, as_json=as_json)
