"""Single requests, and a handful of clients that notice what becomes of each of theirs."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Ask", "Clients", "Fate"]

_PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One picture, raw, to one path of a server on this machine."""

    port: int
    path: str
    picture: bytes

    def once(self) -> int:
        """The status of the answer.

        Raises:
            OSError, http.client.HTTPException: when there is none.
        """
        connection = self.connection()
        try:
            return self.over(connection)
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        """To the server; opened by the first request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)

    def over(self, connection: http.client.HTTPConnection) -> int:
        """The status of the answer, read to its end."""
        connection.request("POST", self.path, self.picture, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


@dataclass
class Fate:
    """What became of the requests of some clients, by kind.

    ``answered`` with 200; ``refused`` with another status; ``lost``: under way when the server was told to stop, and
    never answered; ``cut``: sent after that over a connection that was still open, and never answered.
    """

    counted: Counter[str] = field(default_factory=Counter)

    def __getitem__(self, kind: str) -> int:
        return self.counted[kind]


class Clients:
    """Clients that ask without a pause until nobody listens any more or they are stopped."""

    def __init__(self, ask: Ask, count: int = 8) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._fate, self._lock = Fate(), threading.Lock()
        self._told_at = float("inf")
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fate()

    def told(self) -> None:
        """The server is told to stop now."""
        self._told_at = time.monotonic()

    def fate(self) -> Fate:
        """Stop asking, and say what became of all requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        return self._fate

    def _run(self) -> None:
        while not self._stop.is_set() and self._over_one_connection():
            pass

    def _over_one_connection(self) -> bool:
        """Ask until the connection breaks; False when none can be made."""
        connection = self._ask.connection()
        try:
            connection.connect()
        except OSError:
            return False
        try:
            while not self._stop.is_set():
                sent_at = time.monotonic()
                try:
                    self._count("answered" if self._ask.over(connection) == http.client.OK else "refused")
                except ConnectionRefusedError:  # the server had said that it would close the one before
                    return False
                except (OSError, http.client.HTTPException):
                    self._count("lost" if sent_at < self._told_at else "cut")
                    return True
        finally:
            connection.close()
        return True

    def _count(self, kind: str) -> None:
        with self._lock:
            self._fate.counted[kind] += 1
