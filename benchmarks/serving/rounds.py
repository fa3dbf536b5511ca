"""One contestant in one round: started anew, measured in all its cells, and stopped under load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

from benchmarks.serving.contestants import FIRST_MODEL, Contestant, Place
from benchmarks.serving.load import Load, Loaded
from benchmarks.serving.servers import Server, Stopped, serving

__all__ = ["Cell", "Measured", "Plan", "Visit", "load_of", "measured", "visited"]

FORMS = ("multipart", "raw")


@dataclass(frozen=True, order=True)
class Cell:
    """One thing to measure on one server."""

    model: str
    way: str
    form: str
    connections: int


@dataclass(frozen=True)
class Measured:
    """A cell's result; `cpu_ms` of the whole tree of processes for each good answer."""

    cell: Cell
    load: Loaded
    cpu_ms: float


@dataclass(frozen=True)
class Visit:
    """One contestant in one round."""

    contestant: str
    family: str
    number: int
    start_s: float
    memory_mb: dict[str, float]
    measured: tuple[Measured, ...]
    stopped: Stopped


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: of a cell of the tiny model; a slow model's last longer.
        warm_s: of load before a model's first cell.
    """

    rounds: int = 7
    seconds: int = 1
    warm_s: int = 1
    models: tuple[str, ...] = ("tiny", "resnet18")
    connections: tuple[int, ...] = (1, 8, 32, 128)

    def cells(self, contestant: Contestant) -> list[Cell]:
        """What is measured on a contestant, each model and way in one piece."""
        return [
            Cell(model, way, form, connections)
            for model in self.models
            for way in contestant.ways
            for form in FORMS
            for connections in self.connections
            if self._worth_it(contestant, Cell(model, way, form, connections))
        ]

    def seconds_of(self, cell: Cell) -> int:
        """A cell's length: ResNet18 answers some 40 to 90 requests per second on a core.

        wrk counts what is answered when the time is up: the batch that is under way then should be a small part of it.
        """
        return self.seconds * (1 if cell.model == "tiny" else 2 + math.ceil(cell.connections / 16))

    @staticmethod
    def _worth_it(contestant: Contestant, cell: Cell) -> bool:
        """Whether a cell can say something that no other says already.

        Our executable on peers tells models apart, not forms and loads: multipart at 1 and 32 connections. On the
        slow model a raw body hardly shows, at 1 and 32 connections; and there a peer without batching answers
        half as many requests from 32 connections on, so it is measured below.
        """
        few = cell.connections in {1, 32}
        if not contestant.is_ours and cell.way == "executable":
            wanted = few and cell.form == "multipart"
        else:
            wanted = cell.model == "tiny" or cell.form == "multipart" or few
        return wanted and (contestant.batching or cell.model == "tiny" or cell.connections <= 8)


def visited(contestant: Contestant, number: int, plan: Plan, place: Place) -> Visit:
    """One contestant's visit in one round.

    Raises:
        NotStarted: if it does not.
    """
    memory: dict[str, float] = {}
    found: list[Measured] = []
    with serving(contestant, place) as server:
        for (model, _), group in groupby(plan.cells(contestant), lambda cell: (cell.model, cell.way)):
            cells = list(group)
            measured(server, place, cells[-1], plan.warm_s)
            found += [measured(server, place, cell, plan.seconds_of(cell)) for cell in cells]
            # After the first way a server is as its author would run it; the second adds a model to it.
            memory.setdefault(model, server.tree.memory_bytes() / 2**20)
        stopped = server.stop(FIRST_MODEL)
    return Visit(contestant.name, contestant.family, number, server.start_s, memory, tuple(found), stopped)


def measured(server: Server, place: Place, cell: Cell, seconds: int) -> Measured:
    """Load on one cell, and what it cost; afterwards the server's queue is empty again."""
    before = server.tree.cpu_s()
    load = load_of(server, place, cell, seconds).run()
    used_s = server.tree.cpu_s() - before
    server.ask(cell.model, cell.way).once()
    return Measured(cell, load, 1e3 * used_s / max(load.requests, 1))


def load_of(server: Server, place: Place, cell: Cell, seconds: int) -> Load:
    """The load of a cell."""
    return Load(
        url=server.url(cell.model, cell.way, cell.form),
        form=cell.form,
        picture=place.models / f"{cell.model}.png",
        field=cell.model if server.contestant.names_model else "",
        connections=cell.connections,
        seconds=seconds,
    )
