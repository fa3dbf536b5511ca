"""Our service beside LitServe, BentoML and Ray Serve: `python -m benchmarks.serving --json FILE`.

Everybody in turn, on the same cores: started, measured with wrk in every cell (model, form of the request, number
of connections), stopped by SIGTERM under load; then the next round, which begins with another. Each peer runs with
and without batching, with one worker and with as many as our service has processes; the best of them counts in every cell. Differences whose interval over rounds holds 1 are
reported as none. FILE is JSON; a page of the same name with `.md` is written beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.serving.contestants import FIRST_MODEL, Place
from benchmarks.serving.environments import PEERS
from benchmarks.serving.load import installed
from benchmarks.serving.rounds import Plan
from benchmarks.serving.run import Found, measure
from benchmarks.serving.tables import markdown, rounds_of, tables

__all__ = ["FULL", "QUICK", "TENTH", "main"]

FULL = Plan()
QUICK = Plan(rounds=2, models=(FIRST_MODEL,), connections=(1, 32))
TENTH = Plan(rounds=1, models=(FIRST_MODEL,), connections=(1, 8))
_NOTES = (
    "One picture per request, as a PNG, over connections that stay open; wrk on the same cores as the server, closed loop.",
    "CPU ms: processor time of all the server's processes for each good answer. Memory: sum of their proportional set",
    "sizes after the load. Start: to the first prediction. Ours logs JSON, counts metrics and names requests as always;",
    "the peers' access logs are off. Ours has MALLOC_ARENA_MAX=2, as `moda up` and the image set it. Lost: of eight",
    "requests under way at SIGTERM. Median [95 % interval] over rounds.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    if not installed():
        print(
            "wrk is not installed, and only root on Debian or Ubuntu can let it be: apt-get install wrk",
            file=sys.stderr,
        )
        return 1
    os.sched_setaffinity(0, options.cores)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="moda") as scratch:
        place = Place(
            models=Path(scratch) / "models",
            scratch=Path(scratch),
            environments=options.environments.resolve(),
            threads=options.threads,
            processes=options.processes or len(options.cores),
        )
        _write_models(place)
        wanted = [] if options.tenth else options.peers
        found = measure(_plan(options), place, wanted, ourselves=not (options.quick or options.tenth), progress=_say)
    _report(found, options, load)
    return 0


def _write_models(place: Place) -> None:
    """In a process of its own: pages of torch that this one held too would count half for every server."""
    command = [sys.executable, "-m", "benchmarks.serving.models", str(place.models)]
    subprocess.run(command, env=place.surroundings(), check=True)


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else TENTH if options.tenth else FULL
    models = tuple(options.models) if options.models else plan.models
    return replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds, models=models)


def _report(found: Found, options: argparse.Namespace, load: float) -> None:
    from benchmarks.conditions import Report, conditions
    from experiments.records.conditions import hardware, portable

    known = conditions(
        command=" ".join(["python", "-m", "benchmarks.serving", *map(portable, sys.argv[1:])]),
        hardware=_processor() or hardware("cpu"),
        cores_used=len(options.cores),
        threads=options.threads,
        processes=options.processes or len(options.cores),
        load_at_start=round(load, 1),
        forms=found.forms,
        minutes=round(found.minutes, 1),
        versions=found.versions,
        missing=found.missing,
    )
    shown = tables(found.results, found.ourselves)
    Report("serving", known, shown, {}).show()
    if options.json:
        Report("serving", known, {**shown, "Rounds": rounds_of(found.results)}, {}).write(options.json)
        options.json.with_suffix(".md").write_text(markdown("Serving, side by side", known, shown, _NOTES))


def _processor() -> str:
    """The processor's name, on Linux."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    return f"{name}, {os.cpu_count()} cores" if name else ""


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = options.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="two rounds of the tiny model in few cells: two minutes")
    size.add_argument("--tenth", action="store_true", help="one round of ours alone: a test that all of it works")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results here, and as .md beside it")
    options.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}")
    options.add_argument("--seconds", type=int, help=f"of a cell of the tiny model; default: {FULL.seconds}")
    options.add_argument("--models", nargs="+", choices=FULL.models, help="these alone")
    options.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="these alone")
    options.add_argument("--threads", type=int, default=1, help="of torch in every server (default: 1)")
    options.add_argument(
        "--processes", type=int, help="of our service; peers have as many workers, or one (default: one for each core)"
    )
    options.add_argument(
        "--cores", type=_cores, default=_cores(""), help="for server and wrk, as 0,1 (default: the first two)"
    )
    options.add_argument(
        "--environments",
        type=Path,
        default=Path("build/bench-venvs"),
        metavar="FOLDER",
        help="of the peers' virtual environments",
    )
    return options


def _cores(text: str) -> set[int]:
    return {int(core) for core in text.split(",")} if text else set(sorted(os.sched_getaffinity(0))[:2])


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
