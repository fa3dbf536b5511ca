"""A server's processes as /proc shows them: who belongs to it, what they have used, and what is left of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "ProcessTree", "descendants", "parsed_stat", "running"]

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PSS = "Pss:"


@dataclass(frozen=True)
class Process:
    """One line of /proc/<pid>/stat.

    Attributes:
        ticks: of the processor, in user and kernel mode, with those of children that have ended.
        started: in ticks since the machine's start; with the id it names a process for good.
    """

    pid: int
    parent: int
    state: str
    ticks: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs: what has ended and was not waited for does not."""
        return self.state not in {"Z", "X"}


def parsed_stat(line: str) -> Process:
    """A process from its line; its name may hold spaces and brackets."""
    pid, _, rest = line.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    return Process(int(pid), int(fields[1]), fields[0], sum(map(int, fields[11:15])), int(fields[19]))


def running() -> dict[int, Process]:
    """Every process that can be read."""
    found = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                found[int(folder.name)] = parsed_stat((folder / "stat").read_text())
    return {pid: process for pid, process in found.items() if process.alive}


def descendants(roots: set[int], among: Mapping[int, Process]) -> set[int]:
    """The roots that run, their children, and theirs."""
    found: set[int] = set()
    wave = roots & among.keys()
    while wave:
        found |= wave
        wave = {pid for pid, process in among.items() if process.parent in wave} - found
    return found


class ProcessTree:
    """A process and all that descend from it, orphans too, once they were seen."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._known: dict[int, int] = {}

    def members(self) -> dict[int, Process]:
        """Those that run now."""
        now = running()
        kept = {pid for pid, started in self._known.items() if pid in now and now[pid].started == started}
        if not self._known:
            kept = {self._root}
        found = {pid: now[pid] for pid in descendants(kept, now)}
        self._known |= {pid: process.started for pid, process in found.items()}
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time used so far."""
        return sum(process.ticks for process in self.members().values()) / _TICKS_PER_S

    def memory_bytes(self) -> int:
        """Proportional set size of all members: a page that n processes share counts 1/n for each."""
        return sum(_pss_bytes(pid) for pid in self.members())

    def signal(self, number: signal.Signals) -> None:
        """Send all members a signal."""
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def gone_within(self, timeout_s: float) -> bool:
        """Wait until no member runs; False when some still do."""
        deadline = time.monotonic() + timeout_s
        while self.members():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def _pss_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(_PSS))
