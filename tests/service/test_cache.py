import asyncio

import pytest

from moda_core.errors import NotFound
from service.inference.cache import ByteCache


def made(value: str, log: list[str]):
    async def make() -> str:
        log.append(value)
        await asyncio.sleep(0.01)
        return value

    return make


def test_concurrent_first_requests_make_the_value_once():
    async def scenario() -> tuple[list[str], list[str]]:
        cache, log = ByteCache[str](100, len), []
        values = await asyncio.gather(*(cache.get("a", made("aaa", log)) for _ in range(20)))
        return values, log

    values, log = asyncio.run(scenario())
    assert values == ["aaa"] * 20
    assert log == ["aaa"]


def test_the_least_recently_used_goes_first_and_the_bound_holds():
    async def scenario() -> ByteCache[str]:
        cache, log = ByteCache[str](6, len), []
        for key in ("aa", "bb", "cc", "aa", "dd"):
            await cache.get(key, made(key, log))
            assert cache.used_bytes <= 6
        return cache

    cache = asyncio.run(scenario())
    assert "bb" not in cache
    assert all(key in cache for key in ("aa", "cc", "dd"))
    assert cache.used_bytes == 6


def test_a_value_above_the_bound_is_handed_out_but_not_kept():
    async def scenario() -> tuple[str, ByteCache[str]]:
        cache, log = ByteCache[str](3, len), []
        await cache.get("small", made("s", log))
        return await cache.get("large", made("large", log)), cache

    value, cache = asyncio.run(scenario())
    assert value == "large"
    assert "large" not in cache
    assert "small" in cache


def test_an_error_reaches_every_waiter_and_the_next_one_tries_again():
    async def scenario() -> str:
        cache, log = ByteCache[str](100, len), []

        async def failing() -> str:
            await asyncio.sleep(0.01)
            raise NotFound("model", "a", "none")

        outcomes = await asyncio.gather(*(cache.get("a", failing) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(outcome, NotFound) for outcome in outcomes)
        return await cache.get("a", made("a", log))

    assert asyncio.run(scenario()) == "a"


def test_a_caller_that_gives_up_does_not_take_the_value_from_the_others():
    async def scenario() -> str:
        cache, log = ByteCache[str](100, len), []
        first = asyncio.ensure_future(cache.get("a", made("a", log)))
        second = asyncio.ensure_future(cache.get("a", made("never", log)))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(scenario()) == "a"


def test_what_is_pinned_stays_whatever_its_size_until_it_is_unpinned():
    async def scenario() -> list[tuple[str, ...]]:
        cache, log, kept = ByteCache[str](4, len), [], []
        cache.pin("huge!")
        for key in ("aa", "huge!", "bb", "cc"):
            await cache.get(key, made(key, log))
        for change in (lambda: None, lambda: cache.unpin("huge!")):
            change()
            kept.append(tuple(key for key in ("aa", "huge!", "bb", "cc") if key in cache))
        await cache.get("dd", made("dd", log))
        assert ("dd" in cache, cache.used_bytes) == (True, 2)
        return kept

    assert asyncio.run(scenario()) == [("huge!",), ()]


def test_what_is_dropped_is_made_again():
    async def scenario() -> tuple[list[str], int]:
        cache, log = ByteCache[str](4, len), []
        for _ in range(2):
            await cache.get("aa", made("aa", log))
            cache.drop("aa")
            cache.drop("never here")
        return log, cache.used_bytes

    assert asyncio.run(scenario()) == (["aa", "aa"], 0)


def test_a_value_above_the_bound_is_shared_while_it_is_in_use():
    async def scenario() -> tuple[list[str], int, bool]:
        cache, log = ByteCache[str](3, len), []
        with cache.in_use("large"), cache.in_use("large"):
            for _ in range(3):
                await cache.get("large", made("large", log))
            assert cache.find("large") == "large"
        return log, cache.used_bytes, "large" in cache or cache.find("large") is not None

    assert asyncio.run(scenario()) == (["large"], 0, False)


def test_several_values_are_in_use_together():
    async def scenario() -> tuple[list[str], list[str]]:
        cache, log = ByteCache[str](2, len), []
        with cache.in_use("a", "b"):
            with cache.in_use("a"):
                pass
            for key in "abcd":
                await cache.get(key, made(key, log))
            meanwhile = [key for key in "abcd" if key in cache]
        return meanwhile, [key for key in "abcd" if key in cache]

    meanwhile, afterwards = asyncio.run(scenario())
    assert meanwhile[:2] == ["a", "b"]
    assert len(afterwards) == 2


def test_what_is_in_use_is_not_evicted_and_what_is_discarded_stays_pinned():
    async def scenario() -> list[bool]:
        cache, log = ByteCache[str](4, len), []
        await cache.get("aa", made("aa", log))
        with cache.in_use("aa"):
            for key in ("bb", "cc"):
                await cache.get(key, made(key, log))
            kept = ["aa" in cache, "bb" in cache, "cc" in cache]
        cache.pin("aa")
        cache.discard("aa")
        await cache.get("aa", made("aa", log))
        for key in ("dd", "ee", "ff"):
            await cache.get(key, made(key, log))
        return [*kept, "aa" in cache]

    assert asyncio.run(scenario()) == [True, False, True, True]
