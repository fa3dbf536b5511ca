"""The load generator, against a server whose answers are known."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from benchmarks.endurance.connections import Answer, Connection, request
from benchmarks.endurance.loads import Tally, closed_loop, open_loop

ASK = request("POST", "/predict", query={"model": "a b", "classes": ["x", "y"]}, body=b"pixels")
Reply = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(reply: Reply) -> AsyncIterator[int]:
    """The port of a server that calls `reply` with the number of each request, over any connection."""
    numbers, serving = itertools.count(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"pixels"):
                await reply(next(numbers), writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving)


def http(status: int, body: bytes = b"{}", more: str = "") -> bytes:
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def test_a_request_names_its_path_and_length():
    head, _, body = ASK.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /predict?model=a+b&classes=x&classes=y HTTP/1.1"
    assert b"Content-Length: 6" in head
    assert body == b"pixels"


def test_an_answer_in_pieces_is_one():
    async def slowly(_number: int, writer: asyncio.StreamWriter) -> None:
        for byte in http(429, b"later", "retry-after: 7\r\n"):
            writer.write(bytes([byte]))
            await writer.drain()

    async def ask() -> Answer:
        async with answering(slowly) as port:
            connection = await Connection.to(port)
            first, second = await connection.ask(ASK), await connection.ask(ASK)
            connection.close()
            assert first == second
            return first

    assert asyncio.run(ask()) == Answer(429, 7, b"later")


def test_a_closed_loop_sends_everything_once_and_counts_by_kind():
    async def in_turn(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write([http(200), http(429, more="Retry-After: 1\r\n"), http(429), http(500)][number % 4])

    async def load() -> Tally:
        tally = Tally()
        async with answering(in_turn) as port:
            await closed_loop(port, [ASK] * 40, 3, tally)
        return tally

    tally = asyncio.run(load())
    assert tally.statuses == {200: 10, 429: 20, 500: 10}
    assert (tally.done, tally.errors, tally.without_retry_after) == (40, 10, 10)
    assert len(tally.seconds) == 10
    assert tally.rate == pytest.approx(10 / tally.lasted_s)


def test_a_request_that_nobody_answers_is_an_error_and_the_next_has_a_new_connection():
    async def every_second_time(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200)) if number % 2 else writer.close()

    async def load() -> Tally:
        tally = Tally()
        async with answering(every_second_time) as port:
            await closed_loop(port, [ASK] * 10, 1, tally)
        return tally

    assert asyncio.run(load()).statuses == {200: 5, 0: 5}


def test_nobody_there_is_an_error_for_each_request():
    tally = Tally()
    asyncio.run(closed_loop(1, [ASK] * 5, 2, tally))
    assert tally.statuses == {0: 5}


def test_an_open_loop_does_not_wait_for_answers():
    """Each answer takes 0.3 s: a closed loop over one connection would send one or two in that time."""

    async def late(_number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(http(200))

    async def load() -> Tally:
        tally = Tally()
        async with answering(late) as port:
            await open_loop(port, ASK, 50, 0.4, tally)
        return tally

    tally = asyncio.run(load())
    assert tally.statuses[200] + tally.unsent == 20
    assert tally.statuses[200] > 5
    assert tally.quantile_ms(50) >= 300


def test_an_open_loop_counts_from_when_a_request_was_due():
    """The loop stands still for 0.3 s, and what was due meanwhile has waited for that long."""

    async def stands_still_once(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 0:
            time.sleep(0.3)  # it shall stop everybody
        writer.write(http(200))

    async def load() -> Tally:
        tally = Tally()
        async with answering(stands_still_once) as port:
            await open_loop(port, ASK, 100, 0.6, tally)
        return tally

    assert max(asyncio.run(load()).seconds[1:10]) > 0.15


def test_an_open_loop_holds_back_what_is_too_much():
    async def never(_number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.write(http(200))

    async def load() -> Tally:
        tally = Tally()
        async with answering(never) as port:
            await open_loop(port, ASK, 100, 0.3, tally, most=4)
        return tally

    tally = asyncio.run(load())
    assert tally.statuses == {200: 4}
    assert tally.unsent == 26
