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

    The body of the request has been read.
    """
    loop, doing = asyncio.get_running_loop(), asyncio.ensure_future(work)
    listening: list[asyncio.Task[None]] = []
    timer = loop.call_later(_PATIENCE_S, lambda: listening.append(loop.create_task(_cancel_when_gone(request, doing))))
    try:
        return await doing
    except asyncio.CancelledError:
        if listening and listening[0].done() and not listening[0].cancelled():
            return None
        doing.cancel()
        raise
    finally:
        timer.cancel()
        for task in listening:
            task.cancel()


async def _cancel_when_gone(request: Request, doing: asyncio.Future[_Made]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    doing.cancel()
