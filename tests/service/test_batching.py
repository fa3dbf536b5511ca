from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from service.inference.batching import Batcher
from service.inference.tickets import Outcome, Ticket


class Doubling:
    """Doubles numbers, and remembers which came together; a batch waits until the lane is open."""

    image_s = float("inf")

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()

    def start(self, inputs: Sequence[int]) -> Callable[[], list[int]]:
        assert self.open.wait(10)
        self.batches.append(list(inputs))
        return lambda: [2 * one for one in inputs]


class Failing:
    image_s = float("inf")

    def __init__(self, *, late: bool) -> None:
        self.late = late

    def start(self, inputs: Sequence[int]) -> Callable[[], list[int]]:
        if not self.late:
            raise ValueError("broken")
        return self.fail

    def fail(self) -> list[int]:
        raise ValueError("broken")


def ticket(lane: object, number: int, size: int = 1) -> Ticket[int]:
    return Ticket(lane, lambda: number, size, asyncio.get_running_loop().create_future())


async def occupied(batcher: Batcher, lane: Doubling, number: int = 0) -> Ticket[int]:
    """The device's thread is held by a batch of this lane until it is opened."""
    lane.open.clear()
    first = ticket(lane, number)
    batcher.put(first)
    while batcher.depth:
        await asyncio.sleep(0.001)
    return first


def run(scenario: Callable[[Batcher], object], **options: object) -> object:
    batcher = Batcher(**{"max_batch": 4, **options})
    try:
        return asyncio.run(scenario(batcher))
    finally:
        batcher.close()


@pytest.mark.parametrize("overlap", [False, True])
def test_what_waits_when_the_device_is_free_runs_together_and_never_waits_for_more(overlap: bool):
    async def scenario(batcher: Batcher) -> tuple[list[list[int]], list[Outcome[int]]]:
        lane = Doubling()
        first = await occupied(batcher, lane)
        tickets = [first, *(ticket(lane, number) for number in range(1, 7))]
        for one in tickets[1:]:
            batcher.put(one)
        lane.open.set()
        return lane.batches, [await one.answer for one in tickets]

    batches, outcomes = run(scenario, overlap=overlap)
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [one.output for one in outcomes] == [0, 2, 4, 6, 8, 10, 12]
    assert [one.batch for one in outcomes] == [1, 4, 4, 4, 4, 2, 2]
    assert all(one.started_at <= one.finished_at for one in outcomes)


def test_a_batch_counts_images_and_a_request_above_the_limit_runs_alone():
    async def scenario(batcher: Batcher) -> list[list[int]]:
        lane = Doubling()
        tickets = [await occupied(batcher, lane)]
        tickets += [ticket(lane, number, size) for number, size in ((1, 3), (2, 2), (3, 9), (4, 1))]
        for one in tickets[1:]:
            batcher.put(one)
        lane.open.set()
        await asyncio.gather(*(one.answer for one in tickets))
        return lane.batches

    assert run(scenario) == [[0], [1], [2], [3], [4]]


def test_lanes_take_turns_by_who_has_waited_longest():
    async def scenario(batcher: Batcher) -> list[str]:
        blocked, order = Doubling(), []
        lanes = {name: Doubling() for name in "ab"}
        for name, lane in lanes.items():
            lane.batches = type("Log", (list,), {"append": lambda _, batch, name=name: order.append((name, batch))})()
        first = await occupied(batcher, blocked)
        waiting = [ticket(lanes[name], number) for number, name in enumerate("abba")]
        for one in waiting:
            batcher.put(one)
        blocked.open.set()
        await asyncio.gather(first.answer, *(one.answer for one in waiting))
        return order

    assert run(scenario) == [("a", [0, 3]), ("b", [1, 2])]


def test_a_request_that_nobody_awaits_any_more_costs_no_forward_pass():
    async def scenario(batcher: Batcher) -> list[list[int]]:
        lane = Doubling()
        first = await occupied(batcher, lane)
        gone, late, kept = (ticket(lane, number) for number in (1, 2, 3))
        for one in (gone, late, kept):
            batcher.put(one)
        gone.answer.cancel()
        late.answer.set_exception(TimeoutError())
        lane.open.set()
        assert (await kept.answer).output == 6
        await first.answer
        assert isinstance(late.answer.exception(), TimeoutError)
        return lane.batches

    assert run(scenario) == [[0], [3]]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_is_the_answer_of_its_batch_and_the_device_goes_on(late: bool, overlap: bool):
    async def scenario(batcher: Batcher) -> int:
        failing, lane = ticket(Failing(late=late), 1), ticket(Doubling(), 4)
        batcher.put(failing)
        batcher.put(lane)
        with pytest.raises(ValueError, match="broken"):
            await failing.answer
        return (await lane.answer).output

    assert run(scenario, overlap=overlap) == 8


def test_closing_answers_what_is_queued():
    async def scenario(batcher: Batcher) -> list[int]:
        lane = Doubling()
        tickets = [await occupied(batcher, lane, 5), *(ticket(lane, number) for number in (6, 7))]
        for one in tickets[1:]:
            batcher.put(one)
        closing = asyncio.get_running_loop().run_in_executor(None, batcher.close)
        lane.open.set()
        await closing
        return [(await one.answer).output for one in tickets]

    assert run(scenario) == [10, 12, 14]


def test_what_has_no_images_goes_before_all_that_wait():
    async def scenario(batcher: Batcher) -> list[str]:
        order: list[str] = []
        lanes = {name: Doubling() for name in ("work", "probe")}
        for name, lane in lanes.items():
            lane.batches = type("Log", (list,), {"append": lambda _, batch, name=name: order.append(name)})()
        blocked = Doubling()
        first = await occupied(batcher, blocked)
        waiting = [ticket(lanes["work"], number, 4) for number in range(3)] + [ticket(lanes["probe"], 9, 0)]
        for one in waiting:
            batcher.put(one)
        blocked.open.set()
        await asyncio.gather(first.answer, *(one.answer for one in waiting))
        return order

    assert run(scenario) == ["probe", "work", "work", "work"]


def test_a_lane_that_returns_too_few_answers_is_an_error_and_the_device_goes_on():
    class Short(Doubling):
        def start(self, inputs: Sequence[int]) -> Callable[[], list[int]]:
            return lambda: [1] * (len(inputs) - 1)

    async def scenario(batcher: Batcher) -> int:
        broken, lane = ticket(Short(), 1), ticket(Doubling(), 4)
        batcher.put(broken)
        with pytest.raises(ValueError, match="shorter"):
            await broken.answer
        batcher.put(lane)
        return (await lane.answer).output

    assert run(scenario) == 8


def test_a_quick_batch_beside_a_slow_one_leaves_its_times_alone():
    async def scenario(batcher: Batcher) -> tuple[Outcome[int], Outcome[int]]:
        slow, quick = Doubling(), Doubling()
        first, beside = await occupied(batcher, slow), ticket(quick, 5)
        await asyncio.sleep(0.1)
        batcher.run_here([beside])
        slow.open.set()
        return await first.answer, await beside.answer

    slow, quick = run(scenario)
    assert quick.output == 10
    assert 0 <= quick.finished_at - quick.started_at < 0.05
    assert slow.finished_at - slow.started_at >= 0.1


def test_what_a_lane_takes_is_the_work_of_its_thread_and_not_what_that_waits_for():
    class Waiting(Doubling):
        def start(self, inputs: Sequence[int]) -> Callable[[], list[int]]:
            time.sleep(0.2)
            return super().start(inputs)

    async def scenario(batcher: Batcher) -> float:
        lane = Waiting()
        one = ticket(lane, 1)
        batcher.put(one)
        await one.answer
        return lane.image_s

    assert run(scenario) < 0.05
