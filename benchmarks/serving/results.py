"""What the rounds found, asked by contestant, cell and metric; and who is the best of the peers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.contestants import OURS
from benchmarks.serving.intervals import Interval, interval, paired_ratio
from benchmarks.serving.rounds import Cell, Measured, Visit

__all__ = ["METRICS", "Comparison", "Metric", "Results"]


@dataclass(frozen=True)
class Metric:
    """One figure of a cell, and whether more of it is better."""

    name: str
    of: Callable[[Measured], float]
    more_is_better: bool = False

    def best(self, medians: Mapping[str, float]) -> str:
        """The name with the best median."""
        return (max if self.more_is_better else min)(medians, key=lambda name: medians[name])


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("req/s", lambda found: found.load.rate, more_is_better=True),
        Metric("p50 ms", lambda found: found.load.p50_ms),
        Metric("p99 ms", lambda found: found.load.p99_ms),
        Metric("CPU ms", lambda found: found.cpu_ms),
    )
}


@dataclass(frozen=True)
class Comparison:
    """Ours beside another's figure, with the ratio ours / theirs by rounds."""

    ours: Interval
    other: str
    theirs: Interval
    ratio: Interval

    @property
    def difference(self) -> str:
        """``none`` where the interval of the ratio holds 1, else which way it goes."""
        if not self.ratio.differs_from_one:
            return "none"
        return "ours more" if self.ratio.median > 1 else "ours less"


@dataclass(frozen=True)
class Results:
    """All visits, and the rates of our executable without a server: for each model, by round and batch size."""

    visits: Sequence[Visit]
    in_process: Mapping[str, Sequence[Mapping[int, float]]]

    @property
    def contestants(self) -> list[str]:
        """Everybody's names, ours first."""
        names = dict.fromkeys(visit.contestant for visit in sorted(self.visits, key=lambda visit: visit.family != OURS))
        return list(names)

    @property
    def peers(self) -> list[str]:
        """All but ours."""
        return [name for name in self.contestants if name != OURS]

    def cells(self, contestant: str) -> list[Cell]:
        """What was measured on a contestant."""
        first = next((visit for visit in self.visits if visit.contestant == contestant), None)
        return [found.cell for found in first.measured] if first else []

    def rounds(self, contestant: str) -> list[Visit]:
        """A contestant's visits in the order of rounds."""
        return sorted(
            (visit for visit in self.visits if visit.contestant == contestant), key=lambda visit: visit.number
        )

    def values(self, contestant: str, cell: Cell, metric: Metric) -> list[float]:
        """A figure by rounds; empty where the cell was not measured."""
        return [metric.of(found) for visit in self.rounds(contestant) for found in visit.measured if found.cell == cell]

    def errors(self, contestant: str, cell: Cell | None = None) -> int:
        """Requests that went wrong, in one cell or all."""
        measured = (found for visit in self.rounds(contestant) for found in visit.measured)
        return sum(found.load.errors for found in measured if cell in {None, found.cell})

    def beside_best(self, cell: Cell, metric: Metric) -> Comparison | None:
        """Ours beside the peer that is best in this cell and figure; `cell.way` is how peers run the model."""
        own = self.values(OURS, Cell(cell.model, "executable", cell.form, cell.connections), metric)
        return _beside({peer: self.values(peer, cell, metric) for peer in self.peers}, own, metric)

    def server_beside_best(self, of: Callable[[Visit], float]) -> Comparison | None:
        """The same for what is one figure of a whole server, and better the less it is."""
        theirs = {peer: list(map(of, self.rounds(peer))) for peer in self.peers}
        return _beside(theirs, list(map(of, self.rounds(OURS))), Metric("", lambda _: 0.0))

    def beside_executable(self, model: str, connections: int) -> Comparison | None:
        """Our requests/s beside the images/s of the same executable without a server, in batches as large as can be."""
        cell = Cell(model, "executable", "multipart", connections)
        own = self.values(OURS, cell, METRICS["req/s"])
        rounds = self.in_process.get(model, [])
        if not own or len(rounds) != len(own):
            return None
        batch = max(size for size in rounds[0] if size <= connections)
        return _beside({f"batches of {batch}": [found[batch] for found in rounds]}, own, METRICS["req/s"])


def _beside(theirs: Mapping[str, Sequence[float]], own: Sequence[float], metric: Metric) -> Comparison | None:
    measured = {name: values for name, values in theirs.items() if values and len(values) == len(own)}
    if not measured:
        return None
    best = metric.best(_medians(measured.items()))
    return Comparison(interval(own), best, interval(measured[best]), paired_ratio(own, measured[best]))


def _medians(series: Iterable[tuple[str, Sequence[float]]]) -> dict[str, float]:
    return {name: median(values) for name, values in series}
