"""One server from its start to its end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from benchmarks.serving.clients import Ask, Clients
from benchmarks.serving.contestants import FIRST_MODEL, Contestant, Place
from benchmarks.serving.processes import ProcessTree
from service.ports import free_port
from service.processes import last_lines

__all__ = ["NotStarted", "Server", "Stopped", "serving"]

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_LOAD_BEFORE_STOP_S = 0.3
_AFTERWARDS_S = 1.0


class NotStarted(RuntimeError):
    """A server that did not answer in time; the end of its log is in the message."""


@dataclass(frozen=True)
class Stopped:
    """How a server took SIGTERM under load.

    Attributes:
        stop_s: until the process that was told had ended; None when it did not, and was killed.
        left: processes that still ran a second after that, and were killed.
        lost: requests under way at the signal that got no answer.
        cut: requests sent after it, over connections still open, that got none.
    """

    stop_s: float | None
    left: int
    lost: int
    cut: int


class Server:
    """A contestant that runs.

    Attributes:
        start_s: from the start of its process to the first prediction answered with 200; 0 until `wait`.
    """

    def __init__(self, contestant: Contestant, place: Place) -> None:
        self.contestant, self._place = contestant, place
        self.port = free_port()
        self._log = place.scratch / f"{contestant.family}-{self.port}.log"
        self.start_s, self._began = 0.0, time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                contestant.command(self.port),
                cwd=place.scratch,
                env=dict(contestant.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.tree = ProcessTree(self._process.pid)

    def wait(self) -> None:
        """Return when it answers.

        Raises:
            NotStarted: if it does not; the end of its log is in the message.
        """
        ask, deadline = self.ask(FIRST_MODEL, self.contestant.ways[0]), time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                if ask.once() == http.client.OK:
                    self.start_s = time.monotonic() - self._began
                    self.tree.members()
                    return
            time.sleep(0.02)
        raise NotStarted(f"{self.contestant.name} did not start; its log ends:\n{last_lines(self._log, 30)}")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, model: str, way: str, form: str) -> str:
        """Of predictions."""
        return self.address + self.contestant.path(model, way, form)

    def ask(self, model: str, way: str) -> Ask:
        """One raw picture to a model."""
        picture = (self._place.models / f"{model}.png").read_bytes()
        return Ask(port=self.port, path=self.contestant.path(model, way, "raw"), picture=picture)

    def stop(self, model: str) -> Stopped:
        """SIGTERM while eight clients ask the model, and the end of whatever is left."""
        with Clients(self.ask(model, self.contestant.ways[0])) as clients:
            time.sleep(_LOAD_BEFORE_STOP_S)
            self.tree.members()
            began = time.monotonic()
            clients.told()
            self._process.send_signal(signal.SIGTERM)
            stop_s = self._ended_after(began)
            fate = clients.fate()
        left = 0 if self.tree.gone_within(_AFTERWARDS_S) else len(self.tree.members())
        self.end()
        return Stopped(stop_s, left, fate["lost"], fate["cut"])

    def end(self) -> None:
        """Kill what still runs."""
        self.tree.signal(signal.SIGKILL)
        self._process.wait(_STOP_TIMEOUT_S)
        self.tree.gone_within(_STOP_TIMEOUT_S)

    def _ended_after(self, began: float) -> float | None:
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - began


@contextmanager
def serving(contestant: Contestant, place: Place) -> Iterator[Server]:
    """A server that runs for a while; nothing of it is left afterwards."""
    server = Server(contestant, place)
    try:
        server.wait()
        yield server
    finally:
        server.end()
