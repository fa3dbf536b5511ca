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
from typing import Any, Final

import uvicorn

from moda_core.errors import InvalidInput
from service.collecting import no_collections
from service.commands.terminal import note
from service.forks import Forked
from service.ports import shared
from service.processes import Tree
from service.settings import Settings
from service.siblings import Siblings, shared_folder, sibling_socket
from service.signals import until_signalled

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

_Doors = tuple[socket.socket, socket.socket]
"""Of one process: for clients, and for the other processes."""


def serve(settings: Settings) -> None:
    """Answer until SIGINT or SIGTERM; what was accepted is answered first.

    Several processes divide the cores among them, unless the environment gives torch its threads.

    Raises:
        InvalidInput: for several processes on a system that deals out no connections.
        Conflict: when the port of several processes is taken; one process logs that and exits.
        Unavailable: when one of several ends again and again.
    """
    if settings.processes == 1:
        with no_collections():
            from service.app import create_app
        uvicorn.run(partial(create_app, settings), host=settings.host, port=settings.port, **_UVICORN)
    elif sys.platform != "linux":
        remedy = "leave it out, or start each process on a port of its own behind a load balancer"
        raise InvalidInput("processes", settings.processes, "only on Linux do several share a port", remedy)
    else:
        _serve_together(settings)


def _serve_together(settings: Settings) -> None:
    """One process that answers nobody: it imports everything, forks the others, and starts them again."""
    with until_signalled() as stop, shared_folder() as folder:
        doors = [
            (door, sibling_socket(folder, number))
            for number, door in enumerate(shared(settings.host, settings.port, settings.processes))
        ]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // settings.processes)))
        with no_collections():
            import httpx  # noqa: F401 # by which the processes ask each other

            import service.app  # noqa: F401 # torch and the others, which are then in memory once
        if stop.is_set():
            return
        gc.freeze()  # a collection that marks objects would copy their pages
        parts = [
            Forked(f"service's process {number}", partial(_answer, settings, folder, number, doors))
            for number in range(settings.processes)
        ]
        host, port = doors[0][0].getsockname()[:2]
        with Tree(parts, report=note) as tree:
            note(f"{settings.processes} processes answer at {host}:{port}")
            try:
                while not stop.wait(_LOOK_S):
                    tree.look()
            finally:  # all at once: the tree waits for one after the other
                _close(doors)
                for part in parts:
                    part.tell()


def _answer(settings: Settings, folder: Path, number: int, doors: Sequence[_Doors]) -> None:
    """What one of several processes does."""
    from service.app import create_app  # imported already

    # A door that a process held besides its owner would let callers in when its owner has closed it.
    _close([*doors[:number], *doors[number + 1 :]])
    siblings = Siblings(folder, number, len(doors))
    config = uvicorn.Config(partial(create_app, settings, siblings), **_UVICORN)
    uvicorn.Server(config).run(sockets=list(doors[number]))


def _close(doors: Sequence[_Doors]) -> None:
    for door in chain.from_iterable(doors):
        door.close()
