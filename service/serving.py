"""The service on its port: in this process, or in several that share the port and what is imported."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import uvicorn

from moda_core.errors import InvalidInput
from service.commands.terminal import note
from service.ports import shared
from service.processes import Forked, Tree, until_signalled
from service.settings import Settings
from service.siblings import Siblings, sibling_socket

__all__ = ["serve"]

_UVICORN: Final[dict[str, Any]] = {
    "factory": True,
    "http": "httptools",
    "ws": "none",
    "loop": "asyncio",
    "access_log": False,
    "proxy_headers": False,
    "timeout_graceful_shutdown": 10,
}
"""How the service is run everywhere.

On asyncio's own event loop: uvloop accepts one connection in each of its turns, and a turn may answer for
milliseconds, so that of 128 callers who came at once the last one was heard after a second. The service logs its
requests itself and tells nobody their addresses, which uvicorn would look up among the proxies that it trusts.
"""

_LOOK_S = 0.5


def serve(settings: Settings) -> None:
    """Answer until SIGINT or SIGTERM; what was accepted is answered first.

    Several processes divide the cores among them, unless the environment gives torch its threads.

    Raises:
        InvalidInput: for several processes on a system that deals out no connections.
        Conflict: when the port of several processes is taken; one process logs that and exits.
        Unavailable: when one of several ends again and again.
    """
    if settings.processes == 1:
        uvicorn.run("service.app:create_app", host=settings.host, port=settings.port, **_UVICORN)
    elif sys.platform != "linux":
        remedy = "leave it out, or start each process on a port of its own behind a load balancer"
        raise InvalidInput("processes", settings.processes, "only on Linux do several share a port", remedy)
    else:
        _serve_together(settings)


def _serve_together(settings: Settings) -> None:
    """One process that answers nobody: it imports everything, forks the others, and starts them again."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // settings.processes)))
    with until_signalled() as stop, TemporaryDirectory(prefix="moda-service-") as folder:
        doors = [
            (door, sibling_socket(Path(folder), number))
            for number, door in enumerate(shared(settings.host, settings.port, settings.processes))
        ]
        import service.app  # noqa: F401 # torch and the others, which are then in memory once

        gc.collect()
        gc.freeze()  # a collection that marks objects would copy their pages
        parts = [
            Forked(
                f"service's process {number}",
                partial(_answer, settings, Siblings(Path(folder), number, len(doors)), doors[number]),
            )
            for number in range(len(doors))
        ]
        with Tree(parts, report=note) as tree:
            while not stop.wait(_LOOK_S):
                tree.look()
            for door in chain.from_iterable(doors):
                door.close()
            for part in parts:
                part.tell()


def _answer(settings: Settings, siblings: Siblings, doors: Sequence[socket.socket]) -> None:
    """What one of several processes does."""
    from service.app import create_app  # imported already

    config = uvicorn.Config(partial(create_app, settings, siblings), **_UVICORN)
    uvicorn.Server(config).run(sockets=list(doors))
