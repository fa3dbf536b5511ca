"""What the processes of one service ask of each other, against sockets that answer as told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Scope

from moda_core.errors import InvalidInput, NotFound, Unavailable
from service.inference.cache import ByteCache
from service.metrics import Metrics, side_by_side
from service.siblings import Siblings, shared_folder, sibling_socket

LOAD = "/v2/repository/models/a%2Fb/load"


def asked(server: tuple[str, int | None] = ("127.0.0.1", 8000)) -> Scope:
    """A client's request."""
    return {"type": "http", "method": "POST", "path": LOAD, "raw_path": LOAD.encode(), "server": server}


def settled(name: str = "digits") -> dict[str, Any]:
    return {name: {"version": "1"}}


async def answering(door: socket.socket, status: str, heard: list[str]) -> asyncio.Server:
    """A process that answers everything alike."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head.split(b"\r\n")[0].decode())
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nsaid".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, sock=door)


def in_a_service(folder: Path, status: str, scenario: Callable[[Siblings], Awaitable[None]]) -> list[str]:
    """What another process heard, which answers with a status, while a scenario ran in this one."""
    heard: list[str] = []

    async def run() -> None:
        server = await answering(sibling_socket(folder, 1), status, heard)
        async with server:
            await scenario(Siblings(folder, 0, 2))

    asyncio.run(run())
    return heard


def test_what_is_done_here_is_asked_of_the_others_afterwards(tmp_path: Path) -> None:
    async def scenario(siblings: Siblings) -> None:
        async with siblings.following(asked(), settled):
            assert siblings.agreed() == {}
        assert siblings.agreed() == settled()

    assert in_a_service(tmp_path, "200 OK", scenario) == [f"POST {LOAD} HTTP/1.1"]


def test_what_fails_here_goes_no_further(tmp_path: Path) -> None:
    async def scenario(siblings: Siblings) -> None:
        with pytest.raises(NotFound):
            async with siblings.following(asked(), settled):
                raise NotFound("model", "digits", "there is none")
        assert siblings.agreed() == {}
        async with asyncio.timeout(1), siblings.following(asked(), settled):  # the turn was given back
            pass

    assert len(in_a_service(tmp_path, "200 OK", scenario)) == 1


def test_what_was_recorded_and_not_heard_is_told_again_by_a_process_that_starts(tmp_path: Path) -> None:
    async def follow() -> None:
        async with Siblings(tmp_path, 0, 2).following(asked(), settled):
            pass

    with pytest.raises(Unavailable):  # nobody listens
        asyncio.run(follow())
    assert in_a_service(tmp_path, "200 OK", Siblings.remind) == [f"POST {LOAD} HTTP/1.1"]


def test_where_nothing_was_settled_nobody_is_reminded(tmp_path: Path) -> None:
    assert in_a_service(tmp_path, "200 OK", Siblings.remind) == []


def test_a_process_that_could_not_do_it_is_named(tmp_path: Path) -> None:
    async def scenario(siblings: Siblings) -> None:
        with pytest.raises(Unavailable, match=r"process 1 .* did not do it: said"):
            async with siblings.following(asked(), settled):
                pass

    in_a_service(tmp_path, "503 Service Unavailable", scenario)


def test_a_process_that_is_not_there_is_named_when_it_must_do_and_left_out_when_it_shows(tmp_path: Path) -> None:
    async def scenario() -> None:
        siblings = Siblings(tmp_path, 0, 2)
        with pytest.raises(Unavailable, match="process 1 "):
            async with siblings.following(asked(), settled):
                pass
        assert await siblings.shown("/metrics") == {}

    asyncio.run(scenario())


def test_what_another_one_settled_stays_agreed_whatever_this_one_knows_of_it(tmp_path: Path) -> None:
    async def follow(number: int, name: str) -> None:
        async with Siblings(tmp_path, number, 2).following(asked(), lambda: settled(name)):
            pass

    for number, name in enumerate(("digits", "cats")):
        with pytest.raises(Unavailable):  # nobody listens
            asyncio.run(follow(number, name))
    assert Siblings(tmp_path, 0, 2).agreed() == settled("digits") | settled("cats")


def test_another_process_asks_without_a_port_and_a_service_of_one_has_no_other(tmp_path: Path) -> None:
    by_socket = asked((str(tmp_path / "0.sock"), None))
    siblings = Siblings(tmp_path, 0, 2)
    assert siblings.is_asking(by_socket)
    assert not siblings.is_asking(asked())
    assert not Siblings().is_asking(by_socket)


def test_a_process_waits_for_one_that_is_being_started(tmp_path: Path) -> None:
    """Its socket is there before it is: what it is asked for is done once it can."""

    async def scenario() -> None:
        heard: list[str] = []
        with closing(sibling_socket(tmp_path, 1)) as door:
            asking = asyncio.ensure_future(Siblings(tmp_path, 0, 2).shown("/metrics"))
            await asyncio.sleep(0.1)
            assert not asking.done()
            async with await answering(door, "200 OK", heard):
                assert await asking == {1: b"said"}

    asyncio.run(scenario())


def test_a_folder_with_too_long_a_path_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with pytest.raises(InvalidInput, match=r"TMPDIR: .*shorter path"):
        sibling_socket(folder, 0)


def test_the_folder_is_its_users_alone_and_goes_with_the_service() -> None:
    with shared_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "agreed.json").write_text("{}")
    assert not folder.exists()


def test_one_change_at_a_time_whichever_process_it_reaches(tmp_path: Path) -> None:
    running = 0

    async def follow(siblings: Siblings) -> None:
        nonlocal running
        async with siblings.following(asked(), settled):
            running += 1
            assert running == 1
            await asyncio.sleep(0.02)
            running -= 1

    async def change(siblings: Siblings) -> None:
        with pytest.raises(Unavailable):  # the other one does not listen; it is the turns that count
            await follow(siblings)

    async def scenario() -> None:
        processes = [Siblings(tmp_path, number, 2) for number in range(2)]
        await asyncio.gather(*(change(processes[place % 2]) for place in range(6)))

    asyncio.run(scenario())


def test_alone_there_is_nobody_to_ask(tmp_path: Path) -> None:
    async def scenario() -> None:
        siblings = Siblings(tmp_path)
        async with siblings.following(asked(), settled):
            pass
        assert (siblings.agreed(), await siblings.shown("/metrics")) == ({}, {})

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []


def test_metrics_stand_side_by_side_under_one_heading() -> None:
    one, other = Metrics(), Metrics()
    one.requested("GET", "/models", 200, 0.003)
    one.watch_caches(ByteCache(1, len), ByteCache(1, len))
    other.watch_caches(ByteCache(1, len), ByteCache(1, len))
    for _ in range(2):
        other.requested("GET", "/models", 200, 0.003)
    other.queue_depth.set(7)
    text = side_by_side({1: other.exposition(), 0: one.exposition()}).decode()
    counts = [line for line in text.splitlines() if line.startswith("moda_http_requests_total{")]
    assert counts == [
        f'moda_http_requests_total{{process="{number}",method="GET",route="/models",status="200"}} {count}.0'
        for number, count in ((0, 1), (1, 2))
    ]
    assert text.count("# TYPE moda_http_requests_total counter") == 1
    assert 'moda_queue_depth{process="1"} 7.0' in text
    assert 'moda_http_request_duration_seconds_bucket{process="1",le="0.005",method="GET",route="/models"} 2.0' in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["process"] for family in families.values() for sample in family.samples} == {"0", "1"}
    alone = list(text_string_to_metric_families(one.exposition().decode()))
    assert set(families) == {family.name for family in alone if family.samples}
    assert sum(len(family.samples) for family in alone) * 2 == sum(len(one.samples) for one in families.values())
