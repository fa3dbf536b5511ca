"""`moda up`: Redis, one worker and the service as one tree of processes on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moda_core.errors import Unavailable
from service.client import Client
from service.commands.terminal import note
from service.ports import usable_port
from service.processes import Child, Part, Tree, last_lines, python
from service.signals import Signalled, until_signalled
from worker.embedded import EmbeddedRedis

__all__ = ["Place", "allocator", "run", "service_command", "wait_until_ready"]

READY_TIMEOUT_S = 120.0

_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the product runs.

    Attributes:
        home: of the registry, Redis's file and the logs.
        port: of the service; 0 takes a free one.
        processes: of the service, which share the port.
        redis_url: a Redis that runs already; None starts one below `home`.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "auto"
    processes: int = 1
    redis_url: str | None = None

    @property
    def logs(self) -> Path:
        """The folder of the parts' logs."""
        return self.home / "logs"

    def url(self, port: int) -> str:
        """The service's address as seen from this machine."""
        return f"http://{'127.0.0.1' if self.host in _EVERYWHERE else self.host}:{port}"


_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 # recognised, not bound


def run(place: Place) -> None:
    """Run everything until SIGINT or SIGTERM, and leave no process behind.

    Raises:
        Conflict: the port is taken, or another tree runs on this home.
        Unavailable: a part cannot be started, or ends again and again.
    """
    port = usable_port(place.host, place.port)
    with until_signalled() as stop, Tree(_parts(place, port), report=note) as tree:
        wait_until_ready(place.url(port), look=tree.look, stop=stop, log=place.logs / "service.log")
        if not stop.is_set():
            note(f"MODA runs at {place.url(port)}, its files below {place.home}; Ctrl-C stops it.")
        while not stop.wait(_LOOK_S):
            tree.look()
        note("Stopping.")


def wait_until_ready(
    url: str,
    *,
    look: Callable[[], None],
    stop: Signalled | None = None,
    log: Path,
    timeout_s: float = READY_TIMEOUT_S,
) -> None:
    """Return when the service at `url` is ready, or `stop` is set.

    Between two questions it calls `look`, which raises when waiting has no sense any more.

    Raises:
        Unavailable: it is not ready within `timeout_s`; the end of `log` is in the message.
    """
    stop, deadline = stop or Signalled(), time.monotonic() + timeout_s
    with Client(url, timeout_s=5.0) as client:
        while not stop.is_set():
            try:
                client.ready()
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"the service is not ready ({error})", f"its log ends:\n{last_lines(log)}"
                    ) from error
            else:
                return
            look()
            stop.wait(0.1)


def _parts(place: Place, port: int) -> list[Part]:
    """Redis (unless one is named), the worker and the service, in the order in which they start."""
    redis = EmbeddedRedis(place.home / "redis")

    def environment() -> dict[str, str]:
        return {
            # Worker and service compute on the same cores. Threads that spin while they wait for each other
            # then slow both down severalfold; threads that sleep cost nothing that can be measured.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            "MODA_HOME": str(place.home),
            "MODA_DEVICE": place.device,
            "MODA_REDIS_URL": place.redis_url or redis.url,
        }

    def child(name: str, command: list[str], **more: str) -> Child:
        return Child(name, command, environment=lambda: environment() | more, log=place.logs / f"{name}.log")

    own: list[Part] = [redis] if place.redis_url is None else []
    return [
        *own,
        child("worker", python("worker")),
        child("service", service_command(place.host, port, place.processes), **allocator()),
    ]


def service_command(host: str, port: int, processes: int) -> list[str]:
    """The program that answers at a port."""
    return python("service", "--host", host, "--port", str(port), "--processes", str(processes))


def allocator() -> dict[str, str]:
    """How a service's memory is handed out, by variables of glibc, unless the environment says otherwise.

    glibc gives threads arenas of their own, and memory that one thread took and another freed is of no use to a
    third. Two arenas instead of eight per core keep a service that composes all day as large as it was:
    `python -m benchmarks.soak` shows both.
    """
    return {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
