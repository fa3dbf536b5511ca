from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from moda_core.errors import Corrupt, NotFound
from moda_core.storage.registry import Registry
from service.inference.servables import Servable
from service.oip.residents import Residents
from service.oip.targets import Target


class Engine:
    """Makes what it is asked for when the test lets it, and remembers what is pinned and dropped."""

    def __init__(self) -> None:
        self.may_finish, self.broken = asyncio.Event(), set[str]()
        self.may_finish.set()
        self.pinned, self.dropped = set[str](), list[str]()

    async def ready(self, servable: Servable) -> None:
        assert servable.key in self.pinned, "it could be evicted before it answers"
        await self.may_finish.wait()
        if servable.key in self.broken:
            raise Corrupt(f"{servable.key} is broken", "mend it")

    def pin(self, servable: Servable) -> None:
        self.pinned.add(servable.key)

    def unpin(self, servable: Servable) -> None:
        self.pinned.remove(servable.key)

    def drop(self, servable: Servable) -> None:
        self.dropped.append(servable.key)


def target(digest: str, version: str = "1") -> Target:
    return Target(version, Servable(digest, None, ("cat",), ("cat",)))


def finding(found: Target) -> Callable[[], Awaitable[Target]]:
    async def find() -> Target:
        return found

    return find


def in_a_loop(scenario: Callable[[Engine, Residents], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = Engine()
        await scenario(engine, Residents(engine))

    asyncio.run(run())


def test_the_old_one_answers_until_the_new_one_is_ready_and_only_one_is_pinned():
    async def scenario(engine: Engine, residents: Residents) -> None:
        await residents.load("digits", finding(target("old")))
        engine.may_finish.clear()
        loading = asyncio.ensure_future(residents.load("digits", finding(target("new", "2"))))
        await asyncio.sleep(0.01)
        assert residents.held("digits") == target("old")
        assert engine.pinned == {"old", "new"}
        engine.may_finish.set()
        await loading
        assert residents.held("digits") == target("new", "2")
        assert engine.pinned == {"new"}

    in_a_loop(scenario)


def test_a_load_that_fails_or_is_given_up_changes_nothing_and_the_failure_is_told():
    async def scenario(engine: Engine, residents: Residents) -> None:
        await residents.load("digits", finding(target("old")))
        engine.broken.add("new")
        with pytest.raises(Corrupt):
            await residents.load("digits", finding(target("new", "2")))
        assert "new is broken" in residents.reason("digits", "2")
        assert residents.reason("digits", "1") == ""
        engine.may_finish.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(residents.load("digits", finding(target("slow", "3"))), 0.01)
        assert (residents.held("digits"), residents.version("digits")) == (target("old"), "1")
        assert engine.pinned == {"old"}

    in_a_loop(scenario)


def test_a_failed_first_load_holds_nothing_and_the_next_success_clears_it():
    async def scenario(engine: Engine, residents: Residents) -> None:
        engine.broken.add("new")
        with pytest.raises(Corrupt):
            await residents.load("digits", finding(target("new")))
        assert (residents.held("digits"), residents.names()) == (None, ["digits"])
        engine.broken.clear()
        await residents.load("digits", finding(target("new")))
        assert residents.reason("digits", "1") == ""

    in_a_loop(scenario)


def test_a_model_that_two_names_hold_is_let_go_with_the_second():
    async def scenario(engine: Engine, residents: Residents) -> None:
        for name in ("digits", "digits@prod", "digits"):
            await residents.load(name, finding(target("shared")))
        await residents.unload("digits", finding(target("not asked")))
        assert (engine.pinned, engine.dropped) == ({"shared"}, [])
        with pytest.raises(NotFound, match="unloaded"):
            residents.held("digits")
        assert residents.reason("digits", "7") == "unloaded"
        await residents.unload("digits@prod", finding(target("not asked")))
        assert (engine.pinned, engine.dropped) == (set(), ["shared"])

    in_a_loop(scenario)


def test_a_name_that_cannot_be_found_leaves_no_trace():
    async def nobody() -> Target:
        raise NotFound("model", "nobody", "there is none")

    async def scenario(engine: Engine, residents: Residents) -> None:
        for change in (residents.load, residents.unload):
            with pytest.raises(NotFound):
                await change("nobody", nobody)
        assert (residents.names(), engine.pinned) == ([], set())

    in_a_loop(scenario)


def test_another_process_is_followed_where_it_decided_otherwise(tmp_path: Path):
    async def scenario(engine: Engine, residents: Residents) -> None:
        await residents.load("digits", finding(target("old")))
        loaded = residents.settled("digits")
        assert loaded == {"version": "1", "key": "old", "unloaded": False}
        gone = {"version": "4", "key": "gone", "unloaded": True}
        await residents.follow({"digits": loaded | {"unloaded": True}, "cats": gone}, Registry(tmp_path))
        assert (engine.pinned, engine.dropped) == (set(), ["old"])
        for name, version in (("digits", "1"), ("cats", "4")):
            assert residents.reason(name, version) == "unloaded"
            with pytest.raises(NotFound):
                residents.held(name)

    in_a_loop(scenario)


def test_what_cannot_be_followed_is_said_and_keeps_nothing_else_from_it(tmp_path: Path):
    async def scenario(_engine: Engine, residents: Residents) -> None:
        broken = {"version": "1", "key": "a" * 64, "unloaded": False}
        gone = {"version": "4", "key": "gone", "unloaded": True}
        with pytest.raises(NotFound):
            await residents.follow({"digits": broken, "cats": gone}, Registry(tmp_path))
        assert residents.settled("digits") is None
        assert residents.settled("cats") == gone

    in_a_loop(scenario)
