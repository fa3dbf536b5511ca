"""Our service beside itself: its executable without it, a composed model beside the whole one, two processes beside one."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.serving.contestants import MODULAR, Place, ours
from benchmarks.serving.intervals import paired_ratio
from benchmarks.serving.load import Load, Loaded, parsed
from benchmarks.serving.rounds import Cell, load_of
from benchmarks.serving.servers import Server, serving

__all__ = ["composed_beside_whole", "in_process", "two_beside_one"]

KEPT = tuple(f"class {row}" for row in range(3))
_CONNECTIONS = (1, 32)
Row = dict[str, Any]


def in_process(place: Place, model: str, seconds: float) -> dict[int, float]:
    """Images per second of our executable without a server, by batch size, in a process of its own."""
    file = str(place.models / f"{model}.safetensors")
    command = [sys.executable, "-m", "benchmarks.serving.inprocess", file, str(seconds)]
    done = subprocess.run(command, env=place.surroundings(), capture_output=True, text=True, check=True, timeout=300)
    return {int(batch): rate for batch, rate in json.loads(done.stdout).items()}


def composed_beside_whole(place: Place, rounds: int, seconds: int, progress: Callable[[str], None]) -> list[Row]:
    """Requests/s of a model of three classes over those of the model of ten that it is cut from."""
    rows = []
    with serving(ours(place), place) as server:
        composition = _composed(server)
        for connections in _CONNECTIONS:
            progress(f"composed beside whole: {connections} connections")
            cell = Cell("resnet18", "executable", "raw", connections)
            paths = [f"/predict?model={name}" for name in (MODULAR, composition)]
            loads = [replace(load_of(server, place, cell, seconds), url=_url(server, path)) for path in paths]
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


def _composed(server: Server) -> str:
    """The id of a composition of the modular model."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"model": MODULAR, "classes": KEPT})
    connection.request("POST", "/compose", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"POST /compose answered {answer.status}: {found}")
    return str(found["id"])


def _url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


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
