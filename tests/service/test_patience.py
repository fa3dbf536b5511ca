from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from fastapi import Request

from service.api.patience import unless_gone


def request_of(messages: asyncio.Queue[dict]) -> Request:
    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, messages.get)


async def forever(log: list[str]) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    return "never"


def test_work_ends_when_its_caller_hangs_up():
    async def scenario() -> tuple[str | None, list[str]]:
        messages, log = asyncio.Queue(), []
        asyncio.get_running_loop().call_later(0.2, messages.put_nowait, {"type": "http.disconnect"})
        return await unless_gone(request_of(messages), forever(log)), log

    assert asyncio.run(scenario()) == (None, ["cancelled"])


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_work_that_ends_before_is_answered_and_nobody_listens_on(seconds: float):
    async def work() -> str:
        await asyncio.sleep(seconds)
        return "done"

    async def scenario() -> tuple[str | None, int]:
        answer = await unless_gone(request_of(asyncio.Queue()), work())
        await asyncio.sleep(0)
        return answer, len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == ("done", 1)


def test_its_own_cancellation_goes_on_and_takes_the_work_along():
    async def scenario() -> list[str]:
        log: list[str] = []
        task = asyncio.ensure_future(unless_gone(request_of(asyncio.Queue()), forever(log)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return log

    assert asyncio.run(scenario()) == ["cancelled"]


def test_work_that_is_done_as_its_caller_goes_leaves_no_cancellation_behind():
    async def deaf() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "done"

    async def scenario() -> tuple[str | None, int]:
        messages = asyncio.Queue()
        asyncio.get_running_loop().call_later(0.2, messages.put_nowait, {"type": "http.disconnect"})
        answer = await unless_gone(request_of(messages), deaf())
        return answer, asyncio.current_task().cancelling()

    assert asyncio.run(scenario()) == (None, 0)


def test_the_services_own_end_comes_before_that_of_a_caller_who_goes_meanwhile():
    async def scenario() -> list[str]:
        messages, log = asyncio.Queue(), []
        task = asyncio.ensure_future(unless_gone(request_of(messages), forever(log)))
        await asyncio.sleep(0.2)  # by now somebody listens
        messages.put_nowait({"type": "http.disconnect"})
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return log

    assert asyncio.run(scenario()) == ["cancelled"]
