"""Ports: one that is free, and one that several processes listen on."""

from __future__ import annotations

import socket
from contextlib import closing

from moda_core.errors import Conflict, InvalidInput

__all__ = ["BACKLOG", "free_port", "shared", "usable_port"]

BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's own number."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that nobody listens on now."""
    return usable_port(host, 0)


def usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        Conflict: it is taken.
        InvalidInput: the address is none of this machine's.
    """
    with closing(_bound(host, port)) as probe:
        return int(probe.getsockname()[1])


def shared(host: str, port: int, processes: int) -> list[socket.socket]:
    """A listening socket for each process, all at one port that nobody else has; Linux deals out connections.

    Each has a queue of its own, which is there before its process accepts anybody, and when that has ended and
    another one takes its place.

    Raises:
        Conflict, InvalidInput: as `usable_port`.
    """
    # Among sockets of one user that all reuse the port, nobody would be told that it is taken.
    port = usable_port(host, port)
    doors = [_bound(host, port, socket.SO_REUSEPORT) for _ in range(processes)]
    for door in doors:
        door.listen(BACKLOG)
    return doors


def _bound(host: str, port: int, *options: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named, because asyncio sets TCP_NODELAY on nothing else, and without it each answer waits 40 ms for the
        # receipt of its first packet.
        bound = socket.socket(family, kind, protocol)
    except socket.gaierror as error:
        raise InvalidInput("host", host, "not an address", "give one such as 127.0.0.1") from error
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise Conflict(
            f"{host}:{port} cannot be listened on ({error.strerror})", "stop what does, or give --port"
        ) from error
    return bound
