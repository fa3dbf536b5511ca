"""Child processes that end with their parent: started in order, watched, restarted, stopped in reverse.

Each child program leads a process group of its own, so that Ctrl-C in a terminal reaches the parent alone
and the parent decides the order; on Linux the kernel ends a child whose parent was killed outright.
"""

from __future__ import annotations

import ctypes
import os
import signal
import site
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from moda_core.errors import Unavailable

__all__ = ["Child", "Part", "Tree", "ending_with_parent", "environment", "last_lines", "python"]

_SET_PARENT_DEATH_SIGNAL = 1
_ROOT = Path(__file__).resolve().parents[1]
_LOG_LIMIT_BYTES = 10_000_000


class Part(Protocol):
    """Something that runs beside this process."""

    name: str

    def start(self) -> None:
        """Begin to run; returns once the part is there or on its way."""

    def exited(self) -> int | None:
        """The exit status of a part that has ended, None while it runs."""

    def stop(self) -> None:
        """End it, and return when it has ended; harmless when it never began."""


class Child:
    """One program as a part, with its output appended to a log file.

    Args:
        environment: asked at every start, and laid over this process's own; None takes a variable away.
        log: standard output and error; moved to ``<log>.1`` when it has grown past 10 MB.
        patience_s: how long SIGTERM may take before SIGKILL follows.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Callable[[], Mapping[str, str | None]] = dict,
        log: Path,
        patience_s: float = 20.0,
    ) -> None:
        self.name, self.command, self.log = name, list(command), log
        self._environment, self._patience_s = environment, patience_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the program."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self._environment()),
                start_new_session=True,
                preexec_fn=ending_with_parent(),  # noqa: PLW1509 # one prctl call, bound before the fork
            )

    def exited(self) -> int | None:
        """The exit status, or None while the program runs."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """SIGTERM, and after `patience_s` SIGKILL to whatever is left of the group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._patience_s)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def ending_with_parent() -> Callable[[], None] | None:
    """What a child calls to get SIGTERM when its parent is gone; on Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)

    return end_with_parent


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log file; empty when there is none."""
    if not log.exists():
        return ""
    with log.open(errors="replace") as lines:
        return "".join(deque(lines, maxlen=count)).rstrip()


def python(module: str, *arguments: str) -> list[str]:
    """The command for a module of ours, with nothing imported from the folder where it happens to run."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's own, changed, with our packages importable also where they are not installed."""
    changed = {**os.environ, **changes}
    if str(_ROOT) not in site.getsitepackages():
        paths = [str(_ROOT), *filter(None, [changed.get("PYTHONPATH")])]
        changed["PYTHONPATH"] = os.pathsep.join(paths)
    return {name: value for name, value in changed.items() if value is not None}


class Tree:
    """Parts that run together: started in order, stopped in reverse, started again when one ends.

    Args:
        report: told in a sentence what happens.
        restarts: how often within a minute one part may be started again; one more and all stop.
    """

    def __init__(self, parts: Sequence[Part], *, report: Callable[[str], None], restarts: int = 3) -> None:
        self._parts, self._report, self._restarts = list(parts), report, restarts
        self._restarted: dict[str, deque[float]] = {part.name: deque() for part in parts}

    def __enter__(self) -> Self:
        started: list[Part] = []
        try:
            for part in self._parts:
                started.append(part)
                part.start()
        except BaseException:
            _stop(started)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _stop(self._parts)

    def look(self) -> None:
        """Start again what has ended.

        Raises:
            Unavailable: for a part that has ended too often.
        """
        for part in self._parts:
            status = part.exited()
            if status is None:
                continue
            if not self._may_restart(part.name):
                raise Unavailable(f"the {part.name} ended {self._restarts + 1} times within a minute", _see_log(part))
            self._report(f"the {part.name} ended with status {status} and is started again")
            part.start()

    def _may_restart(self, name: str) -> bool:
        now, times = time.monotonic(), self._restarted[name]
        while times and now - times[0] > 60:
            times.popleft()
        times.append(now)
        return len(times) <= self._restarts


def _stop(parts: Sequence[Part]) -> None:
    for part in reversed(parts):
        part.stop()


def _see_log(part: Part) -> str:
    if not isinstance(part, Child):
        return "see its log"
    return f"the end of {part.log}:\n{last_lines(part.log)}"
