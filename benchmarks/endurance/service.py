"""The service, as `moda up` starts it, on a registry of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from moda_core.errors import Unavailable
from service.ports import free_port
from service.processes import Child, last_lines
from service.up import allocator, service_command, wait_until_ready

__all__ = ["Service", "metric", "served"]

_NO_REDIS = "redis://127.0.0.1:1/0"
"""Nobody listens there: predictions need no Redis."""


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.child.pid is not None
        return self.child.pid

    def metrics(self) -> str:
        """Everything that it counts, as text."""
        answer = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False)
        return answer.raise_for_status().text

    def look(self) -> None:
        """Make sure that it runs.

        Raises:
            Unavailable: when it has ended; the end of its log is in the message.
        """
        if (status := self.child.exited()) is not None:
            raise Unavailable(f"the service ended with status {status}", last_lines(self.child.log, 30))


def metric(exposition: str, name: str) -> float:
    """The value of a metric, whose name ends in its labels where it has some.

    Raises:
        LookupError: without it.
    """
    found = re.search(rf"^{re.escape(name)} (\S+)$", exposition, re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return float(found[1])


@contextmanager
def served(
    home: Path, *, threads: int, processes: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """A service on the registry below `home`, ready; nothing of it is left afterwards.

    Args:
        home: of the registry, and of the log.
        threads: of torch.
        processes: of the service.
        settings: further `MODA_*`.
    """
    port = free_port()
    environment = {
        **allocator(),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MODA_HOME": str(home),
        "MODA_DEVICE": "cpu",
        "MODA_REDIS_URL": _NO_REDIS,
        **(settings or {}),
    }
    log = home / f"service-{port}.log"
    command = service_command("127.0.0.1", port, processes)
    service = Service(Child("service", command, environment=lambda: environment, log=log), port)
    service.child.start()
    try:
        wait_until_ready(service.url, look=service.look, log=log)
        yield service
    finally:
        service.child.stop()
