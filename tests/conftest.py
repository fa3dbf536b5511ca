"""What every test shares: one thread per process, no socket to the outside, nothing left running.

Sockets are held by the options in pyproject.toml; what reaches this machine alone is allowed.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest
import torch

MARK = "MODA_TEST_RUN"
PATIENCE_S = 10.0

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Forget the caller's settings, and mark every process that will descend from this run."""
    mark = os.environ.get(MARK) if hasattr(config, "workerinput") else uuid.uuid4().hex
    for name in [name for name in os.environ if name.startswith("MODA_")]:
        del os.environ[name]
    os.environ[MARK] = mark or ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session):
    """Fail a run that leaves processes behind, whoever their parent is by now."""
    result = yield
    if hasattr(session.config, "workerinput"):
        return result
    deadline = time.monotonic() + PATIENCE_S
    while (left := processes_of_this_run()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        for pid, command in left.items():
            reporter.write_line(f"left running by the tests: {pid} {command}", red=True)
    return result


def processes_of_this_run() -> dict[int, str]:
    """Command lines, by process id, of all other processes that carry this run's mark (Linux; elsewhere none)."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if marked and command and int(process.name) != os.getpid() and "resource_tracker" not in command:
            found[int(process.name)] = command
    return found
