"""The processes of one service that share a port: each hears the others over a Unix socket of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeGuard

from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from moda_core.errors import InvalidInput, Unavailable
from moda_core.files import locked, write_atomically
from service.ports import BACKLOG

if TYPE_CHECKING:
    import httpx

__all__ = ["Siblings", "shared_folder", "sibling_socket"]

_SHOWN_S, _DONE_S = 2.0, 600.0
"""How long another process may take to show something, and to do something."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder of one service's processes, removed afterwards; only their user can open it."""
    with TemporaryDirectory(prefix="moda-service-") as folder:
        opened = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_SH)  # so that systemd does not tidy it away after ten days
            yield Path(folder)
        finally:
            os.close(opened)


def sibling_socket(folder: Path, number: int) -> socket.socket:
    """Where a process is asked by the others; they may ask before it answers.

    Raises:
        InvalidInput: for a folder whose path is too long for it.
    """
    door = socket.socket(socket.AF_UNIX)
    try:
        door.bind(str(_door(folder, number)))
    except OSError as error:
        door.close()
        raise InvalidInput("TMPDIR", folder, str(error), "let TMPDIR name a folder with a shorter path") from error
    door.listen(BACKLOG)
    return door


class Siblings:
    """The other processes of this one's service; by default it is alone.

    Args:
        folder: of everybody's `sibling_socket`, of their lock, and of what they have settled together.
        number: of this process, from 0.
        processes: how many there are.
    """

    def __init__(self, folder: Path = Path(), number: int = 0, processes: int = 1) -> None:
        self._folder = folder
        self.number = number
        self.others = [other for other in range(processes) if other != number]
        self._turn = asyncio.Lock()

    def is_asking(self, scope: Scope) -> bool:
        """Whether another process asks, rather than a client: on a Unix socket, which has no port."""
        return bool(self.others) and scope["server"][1] is None

    async def shown(self, path: str) -> dict[int, bytes]:
        """What the others answer to a GET, by number; without one that is just being started."""
        answers = await self._answers("GET", path, _SHOWN_S)
        return {number: answer.content for number, answer in answers.items() if _is_good(answer)}

    @asynccontextmanager
    async def following(self, scope: Scope, settled: Callable[[], Mapping[str, Any]]) -> AsyncIterator[None]:
        """What this process does meanwhile for a client, all others are told afterwards by the same request.

        One such request runs at a time, whichever process it reaches; one that fails here goes no further. What it
        `settled`, under some names, the others find in `agreed`, and so does a process that is started later.

        Raises:
            Unavailable: when another process could not do it.
        """
        if not self.others:
            yield
            return
        async with self._turn:
            with await run_in_threadpool(locked, self._folder / "lock"):
                yield
                asked = scope["method"], scope["raw_path"].decode("ascii")
                record = {"settled": {**self.agreed(), **settled()}, "asked": asked}
                await run_in_threadpool(write_atomically, self._record, json.dumps(record).encode())
                answers = await self._answers(*asked, _DONE_S)
        for number, answer in answers.items():
            if not _is_good(answer):
                said = repr(answer) if isinstance(answer, Exception) else answer.text
                raise Unavailable(f"process {number} of the service did not do it: {said}", "ask for it again")

    def agreed(self) -> dict[str, Any]:
        """What the processes have settled so far."""
        agreed: dict[str, Any] = self._recorded().get("settled", {})
        return agreed

    async def remind(self) -> None:
        """Tell the others again what was last settled: a process may have ended between recording and telling it."""
        if recorded := self._recorded():
            method, path = recorded["asked"]
            await self._answers(method, path, _DONE_S)

    def _recorded(self) -> dict[str, Any]:
        if not self.others or not self._record.exists():
            return {}
        recorded: dict[str, Any] = json.loads(self._record.read_bytes())
        return recorded

    @property
    def _record(self) -> Path:
        return self._folder / "agreed.json"

    async def _answers(self, method: str, path: str, timeout_s: float) -> dict[int, httpx.Response | Exception]:
        import httpx

        async def answer(number: int) -> httpx.Response | Exception:
            way = httpx.AsyncHTTPTransport(uds=str(_door(self._folder, number)), verify=False)  # no TLS
            try:
                async with httpx.AsyncClient(transport=way, base_url="http://localhost", timeout=timeout_s) as client:
                    return await client.request(method, path)
            except httpx.HTTPError as error:
                return error

        answers = await asyncio.gather(*(answer(number) for number in self.others))
        return dict(zip(self.others, answers, strict=True))


def _door(folder: Path, number: int) -> Path:
    return folder / f"{number}.sock"


def _is_good(answer: httpx.Response | Exception) -> TypeGuard[httpx.Response]:
    return not isinstance(answer, Exception) and answer.is_success
