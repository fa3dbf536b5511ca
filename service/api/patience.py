"""Work for a caller who may go away while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

__all__ = ["unless_gone"]

_Made = TypeVar("_Made")

_PATIENCE_S = 0.1
"""An answer that comes sooner is not worth a task that listens for the caller's end."""


async def unless_gone(request: Request, work: Awaitable[_Made]) -> _Made | None:
    """What the work makes; None, and the work cancelled, where the caller hangs up before.

    The body of the request has been read. The work is awaited by the calling task itself, because a task of its own
    takes as long as some of the answers.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = _Watch(request, task)
    timer = asyncio.get_running_loop().call_later(_PATIENCE_S, watch.begin)
    try:
        made = await work
    except asyncio.CancelledError:
        if watch.gone and task.uncancel() <= watch.cancelling:
            return None
        raise
    else:
        if watch.gone:  # the work was done in the same moment, and did not hear of it
            task.uncancel()
            return None
        return made
    finally:
        timer.cancel()
        watch.end()


class _Watch:
    """Listens for the end of a request's caller, and cancels the task that works for it.

    Attributes:
        cancelling: how often others had asked the task to end before.
        gone: whether the caller has gone, and the task was cancelled for it.
    """

    def __init__(self, request: Request, task: asyncio.Task[object]) -> None:
        self._request, self._task = request, task
        self._listening: asyncio.Task[None] | None = None
        self.cancelling, self.gone = task.cancelling(), False

    def begin(self) -> None:
        self._listening = asyncio.ensure_future(self._listen())

    def end(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
