"""Our service and what it is made of: its choice of forms, its executable alone, a composed model, its processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks.serving.contestants import MODULAR, Place, ours
from benchmarks.serving.intervals import paired_ratio
from benchmarks.serving.load import Loaded
from benchmarks.serving.rounds import Cell, Plan, load_of
from benchmarks.serving.servers import Server, serving
from service.client import Client

__all__ = ["chosen_form", "chosen_forms", "composed_beside_whole", "in_process", "together_beside_one"]

KEPT = tuple(f"class {row}" for row in range(3))
_BATCHES = (8, 32)
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
    """Images per second of our executable without a server, by batch size.

    One image at a time is the work of one process; of larger batches there are as many processes as the service has,
    all at once, and their rates are added.
    """
    alone = _copies(place, model, seconds, 1, (1,))
    together = _copies(place, model, seconds, place.processes, _BATCHES)
    return {batch: sum(rates[batch] for rates in copies) for copies in (alone, together) for batch in copies[0]}


def _copies(place: Place, model: str, seconds: float, count: int, batches: Sequence[int]) -> list[dict[int, float]]:
    file = str(place.models / f"{model}.safetensors")
    command = [sys.executable, "-m", "benchmarks.serving.inprocess", file, place.forms[model], str(seconds)]
    command += map(str, batches)
    with ThreadPoolExecutor(count) as copies:
        run = partial(subprocess.run, capture_output=True, text=True, check=True, timeout=300)
        done = [copies.submit(run, command, env=place.surroundings()) for _ in range(count)]
    return [{int(batch): rate for batch, rate in json.loads(one.result().stdout).items()} for one in done]


def composed_beside_whole(place: Place, plan: Plan, progress: Callable[[str], None]) -> list[Row]:
    """Requests/s of a model of three classes over those of the model of ten that it is cut from."""
    rows = []
    with serving(ours(place), place) as server:
        composition = _composed(server)
        for connections in _CONNECTIONS:
            progress(f"composed beside whole: {connections} connections")
            cell = Cell(MODULAR, "executable", "raw", connections)
            whole = load_of(server, place, cell, plan.seconds_of(cell))
            loads = [whole, replace(whole, url=f"{server.address}/predict?model={composition}")]
            for load in loads:
                load.run()
            pairs = [[load.run() for load in loads] for _ in range(plan.rounds)]
            rows.append(_row({"connections": connections}, ("whole", "composed"), pairs))
    return rows


def together_beside_one(place: Place, plan: Plan, progress: Callable[[str], None]) -> list[Row]:
    """Requests/s and memory of all processes of the service, on their port, beside those of a service of one.

    Both run at the same time, so that pages of libraries are divided among both.
    """
    rows = []
    single = replace(place, processes=1)
    with serving(ours(single), single) as one, serving(ours(place), place) as together:
        for model in plan.models:
            progress(f"{place.processes} processes beside one: {model}")
            cell = Cell(model, "executable", "raw", 32)
            loads = [load_of(server, place, cell, plan.seconds_of(cell)) for server in (one, together)]
            pairs = [[load.run() for load in loads] for _ in range(plan.rounds + 1)]
            row = _row({"model": model, "connections": 32}, ("one", f"{place.processes}"), pairs[1:])
            memory = [round(server.tree.memory_bytes() / 2**20) for server in (one, together)]
            rows.append(row | {"one MB": memory[0], f"{place.processes} MB": memory[1]})
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
