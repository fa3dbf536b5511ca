"""wrk, the load generator: closed loop, one thread, connections kept alive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "Loaded", "installed", "parsed"]

_SCRIPT = Path(__file__).with_name("load.lua")
_MARK = "RESULT "
_ERRORS = ("connect", "read", "write", "status", "timeout")
_REQUEST_TIMEOUT_S = 60
"""Longer than any answer takes: a slow server is to be measured, not cut off."""


@dataclass(frozen=True)
class Loaded:
    """What wrk saw.

    Attributes:
        requests: answered well.
        errors: connections and reads that failed, time-outs, and answers of 400 and above.
    """

    duration_s: float
    requests: int
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.requests / self.duration_s


@dataclass(frozen=True, kw_only=True)
class Load:
    """One picture sent again and again.

    Attributes:
        form: ``multipart`` or ``raw``.
        field: of the form, naming the model; empty for servers that take it from the path.
        seconds: whole ones, as wrk has it.
    """

    url: str
    form: str
    picture: Path
    field: str
    connections: int
    seconds: int

    @property
    def command(self) -> list[str]:
        """Wrk's command line."""
        counts = ["-t1", f"-c{self.connections}", f"-d{self.seconds}s", "--timeout", f"{_REQUEST_TIMEOUT_S}s"]
        return ["wrk", *counts, "-s", str(_SCRIPT), self.url, "--", self.form, str(self.picture), self.field]

    def start(self) -> subprocess.Popen[str]:
        """Begin; `parsed` reads what it prints."""
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self) -> Loaded:
        """Send for as long as asked."""
        with self.start() as process:
            output, _ = process.communicate(timeout=self.seconds + _REQUEST_TIMEOUT_S)
        return parsed(output)


def parsed(output: str) -> Loaded:
    """What a run printed.

    Raises:
        RuntimeError: with wrk's own words, when it did not run.
    """
    lines = [line.removeprefix(_MARK) for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise RuntimeError(f"wrk did not run: {output.strip()}")
    found = json.loads(lines[-1])
    return Loaded(
        duration_s=found["duration_us"] / 1e6,
        requests=found["requests"] - found["status"],
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        errors=sum(found[kind] for kind in _ERRORS),
    )


def installed() -> bool:
    """Whether wrk is there, installed now where that is possible: as root on Debian or Ubuntu."""
    if not shutil.which("wrk") and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "wrk"]):
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, check=False)
    return shutil.which("wrk") is not None
