"""Our service and what it is made of: its choice of forms, its executable alone, a composed model, a second process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.serving.contestants import MODULAR, Place, ours
from benchmarks.serving.intervals import paired_ratio
from benchmarks.serving.load import Load, Loaded, parsed
from benchmarks.serving.rounds import Cell, load_of
from benchmarks.serving.servers import Server, serving
from service.client import Client

__all__ = ["chosen_form", "chosen_forms", "composed_beside_whole", "in_process", "two_beside_one"]

KEPT = tuple(f"class {row}" for row in range(3))
_CONNECTIONS = (1, 32)
_CHOICE_TIMEOUT_S = 180.0
Row = dict[str, Any]


def chosen_forms(place: Place, models: Sequence[str]) -> dict[str, str]:
    """The form in which our service runs each model.

    It measures that beside the first requests, for seconds, and remembers it below its home: everything else is
    measured on a service that knows.
    """
    with serving(ours(place), place) as server:
        for model in models:
            load_of(server, place, Cell(model, "executable", "raw", 1), 1).run()
        return {model: chosen_form(server.address, model) for model in models}


def in_process(place: Place, model: str, seconds: float) -> dict[int, float]:
    """Images per second of our executable without a server, by batch size, in a process of its own."""
    file = str(place.models / f"{model}.safetensors")
    command = [sys.executable, "-m", "benchmarks.serving.inprocess", file, place.forms[model], str(seconds)]
    done = subprocess.run(command, env=place.surroundings(), capture_output=True, text=True, check=True, timeout=300)
    return {int(batch): rate for batch, rate in json.loads(done.stdout).items()}


def composed_beside_whole(place: Place, rounds: int, seconds: int, progress: Callable[[str], None]) -> list[Row]:
    """Requests/s of a model of three classes over those of the model of ten that it is cut from."""
    rows = []
    with serving(ours(place), place) as server:
        composition = _composed(server)
        for connections in _CONNECTIONS:
            progress(f"composed beside whole: {connections} connections")
            whole = load_of(server, place, Cell(MODULAR, "executable", "raw", connections), seconds)
            loads = [whole, replace(whole, url=f"{server.address}/predict?model={composition}")]
            for load in loads:
                load.run()
            pairs = [[load.run() for load in loads] for _ in range(rounds)]
            rows.append(_row({"connections": connections}, ("whole", "composed"), pairs))
    return rows


def two_beside_one(
    place: Place, models: Sequence[str], rounds: int, seconds: int, progress: Callable[[str], None]
) -> list[Row]:
    """Requests/s of two processes of the service, each on a port with half of the connections, over those of one."""
    rows = []
    contestant = ours(place)
    with serving(contestant, place) as first, serving(contestant, place) as second:
        for model in models:
            progress(f"two processes beside one: {model}")
            cell = Cell(model, "executable", "raw", 32)
            one = [load_of(first, place, cell, seconds)]
            halved = replace(cell, connections=16)
            two = [load_of(server, place, halved, seconds) for server in (first, second)]
            pairs = [[_together(one), _together(two)] for _ in range(rounds + 1)]
            rows.append(_row({"model": model, "connections": 32}, ("one", "two"), pairs[1:]))
    return rows


def chosen_form(address: str, model: str) -> str:
    """The form of a model that a service has been asked for, once it has chosen.

    Raises:
        RuntimeError: when it does not.
    """
    deadline = time.monotonic() + _CHOICE_TIMEOUT_S
    with Client(address) as client:
        while not (chosen := client.model(model).serving):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service has not chosen a form of {model} within {_CHOICE_TIMEOUT_S} s")
            time.sleep(0.2)
    return str(chosen["form"])


def _composed(server: Server) -> str:
    """The id of a composition of the modular model."""
    with Client(server.address) as client:
        return client.compose(MODULAR, KEPT).id


def _together(loads: Sequence[Load]) -> Loaded:
    """Several loads at once, as one."""
    processes = [load.start() for load in loads]
    found = [parsed(process.communicate()[0]) for process in processes]
    return Loaded(
        duration_s=max(one.duration_s for one in found),
        requests=sum(one.requests for one in found),
        p50_ms=max(one.p50_ms for one in found),
        p99_ms=max(one.p99_ms for one in found),
        errors=sum(one.errors for one in found),
    )


def _row(what: Row, names: tuple[str, str], pairs: Sequence[Sequence[Loaded]]) -> Row:
    before, after = ([pair[place].rate for pair in pairs] for place in (0, 1))
    ratio = paired_ratio(after, before)
    return {
        **what,
        **{f"{name} req/s": round(median(rates), 1) for name, rates in zip(names, (before, after), strict=True)},
        "ratio": ratio.text(),
        "difference": "yes" if ratio.differs_from_one else "none",
        "errors": sum(one.errors for pair in pairs for one in pair),
    }
