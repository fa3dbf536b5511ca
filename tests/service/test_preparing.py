from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from service.inference import preparing as preparing_module
from service.inference.batching import Batcher
from service.inference.preparing import Preparing
from service.inference.tickets import Ticket


class Noting:
    """Notes in which thread its batches ran, and what was in them."""

    def __init__(self, image_s: float) -> None:
        self.image_s, self.batches = image_s, list[tuple[str, list[object]]]()

    def start(self, inputs: Sequence[object]) -> Callable[[], Sequence[object]]:
        self.batches.append((threading.current_thread().name, list(inputs)))
        return lambda: inputs


class Steady(Noting):
    """Takes what it was said to take, whatever is measured of it."""

    image_s = property(lambda self: self.said_s, lambda self, measured: None)

    def __init__(self, image_s: float) -> None:
        self.said_s = image_s
        super().__init__(image_s)


@contextmanager
def prepared(*, overlap: bool = False) -> Iterator[Preparing]:
    batcher = Batcher(max_batch=32, overlap=overlap)
    made = Preparing(batcher)
    yield made
    made.close()
    batcher.close()


@pytest.fixture
def preparing():
    with prepared() as made:
        yield made


def answers(preparing: Preparing, lane: Noting, makes: Sequence[Callable[[], object]], *, small: bool) -> list[object]:
    async def scenario() -> list[object]:
        loop = asyncio.get_running_loop()
        tickets = [Ticket(lane, make, 1, loop.create_future()) for make in makes]
        for ticket in tickets:
            preparing.submit(ticket, small=small)
        done = await asyncio.gather(*(ticket.answer for ticket in tickets), return_exceptions=True)
        return [one if isinstance(one, Exception) else one.output for one in done]

    return asyncio.run(scenario())


def noted(value: int) -> Callable[[], tuple[str, int]]:
    return lambda: (threading.current_thread().name, value)


def test_what_is_quick_and_small_is_answered_together_by_the_loop_itself(preparing: Preparing):
    lane = Noting(image_s=0.00001)
    found = answers(preparing, lane, [noted(number) for number in range(5)], small=True)
    assert found == [("MainThread", number) for number in range(5)]
    assert [(thread, len(batch)) for thread, batch in lane.batches] == [("MainThread", 5)]


def test_a_turn_of_the_loop_takes_a_few_milliseconds_of_it_and_the_next_turn_goes_on(preparing: Preparing):
    lane = Steady(image_s=0.0004)
    found = answers(preparing, lane, [noted(number) for number in range(25)], small=True)
    assert found == [("MainThread", number) for number in range(25)]
    assert sum(len(batch) for _, batch in lane.batches) == 25
    assert all(len(batch) <= 13 for _, batch in lane.batches)  # 5 ms of 0.4
    assert {thread for thread, _ in lane.batches} == {"MainThread"}


def test_between_two_such_turns_the_loop_hears_others(preparing: Preparing):
    lane = Steady(image_s=0.0004)

    async def scenario() -> list[int]:
        loop = asyncio.get_running_loop()
        tickets = [Ticket(lane, noted(number), 1, loop.create_future()) for number in range(30)]
        for ticket in tickets:
            preparing.submit(ticket, small=True)
        heard: list[int] = []
        while not tickets[-1].answer.done():
            await asyncio.sleep(0)
            heard.append(sum(ticket.answer.done() for ticket in tickets))
        return heard

    heard = asyncio.run(scenario())
    assert heard[-1] == 30
    assert len(heard) >= 3
    assert all(later - before <= 13 for before, later in zip([0, *heard], heard, strict=False))


def test_a_turn_ends_when_its_time_is_up_however_long_an_image_takes(preparing: Preparing):
    def slow() -> str:
        time.sleep(0.02)
        return threading.current_thread().name

    lane = Steady(image_s=0.00001)
    assert answers(preparing, lane, [slow] * 3, small=True) == ["MainThread"] * 3
    assert [len(batch) for _, batch in lane.batches] == [1, 1, 1]


def test_a_turn_takes_no_more_of_a_lane_than_run_together(preparing: Preparing):
    lane = Steady(image_s=0.00001)
    assert len(answers(preparing, lane, [noted(number) for number in range(40)], small=True)) == 40
    assert [len(batch) for _, batch in lane.batches] == [32, 8]


def test_each_lane_has_its_own_batch_in_a_turn(preparing: Preparing):
    lanes = Steady(image_s=0.00001), Steady(image_s=0.00001)

    async def scenario() -> list[object]:
        loop = asyncio.get_running_loop()
        tickets = [Ticket(lanes[number % 2], noted(number), 1, loop.create_future()) for number in range(6)]
        tickets[2].answer.cancel()  # nobody wants it any more
        for ticket in tickets:
            preparing.submit(ticket, small=True)
        return [(await one.answer).output[1] for one in tickets if not one.answer.cancelled()]

    assert asyncio.run(scenario()) == [0, 1, 3, 4, 5]
    assert [[value for _, value in lane.batches[0][1]] for lane in lanes] == [[0, 4], [1, 3, 5]]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch):
    """Turns have all the time they want, so that a busy machine does not end one."""
    for limit in ("_HERE_S", "_GATHER_S"):
        monkeypatch.setattr(preparing_module, limit, 60.0)


def in_turns(preparing: Preparing, lane: Noting, *sizes: int) -> None:
    """So many requests in each turn of the loop, one turn after the other, whatever became of those before."""

    async def scenario() -> None:
        loop, tickets = asyncio.get_running_loop(), list[Ticket[object]]()
        for size in sizes:
            arrived = [Ticket(lane, noted(number), 1, loop.create_future()) for number in range(size)]
            tickets += arrived
            for ticket in arrived:
                preparing.submit(ticket, small=True)
            await asyncio.sleep(0)
        for ticket in tickets:
            await ticket.answer

    asyncio.run(scenario())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ((2, 3, 1), [6]),
        ((2, 3, 0, 0, 2, 0), [5, 2]),  # a turn that brings nothing ends a batch
        ((20, 20, 20), [32, 28]),  # a full batch waits for no other turn
    ],
)
def test_what_comes_turn_after_turn_shares_a_batch(preparing: Preparing, sizes: Sequence[int], batches: list[int]):
    lane = Steady(image_s=0.00001)
    in_turns(preparing, lane, *sizes)
    assert [len(batch) for _, batch in lane.batches] == batches


@pytest.mark.parametrize(("image_s", "small"), [(0.00001, True), (0.1, False)])
def test_nobody_waits_long_for_those_who_come_turn_after_turn(preparing: Preparing, image_s: float, small: bool):
    lane = Steady(image_s=image_s)

    async def scenario() -> int:
        loop, tickets = asyncio.get_running_loop(), list[Ticket[object]]()
        while not tickets or not tickets[0].prepared:
            tickets.append(Ticket(lane, noted(0), 1, loop.create_future()))
            preparing.submit(tickets[-1], small=small)
            time.sleep(0.01)  # what else the loop does
            await asyncio.sleep(0)
        turns_waited = len(tickets)
        for ticket in tickets:
            await ticket.answer
        return turns_waited

    assert asyncio.run(scenario()) < 10


def turns(preparing: Preparing, lane: Noting, *sizes: int, small: bool = True) -> list[list[bool]]:
    """Which requests of each turn of the loop were answered before the next one could arrive."""

    async def scenario() -> list[list[bool]]:
        loop, found = asyncio.get_running_loop(), list[list[bool]]()
        for size in sizes:
            tickets, at_once = [Ticket(lane, noted(number), 1, loop.create_future()) for number in range(size)], []
            for ticket in tickets:
                preparing.submit(ticket, small=small)
                at_once.append(ticket.answer.done())
            found.append(at_once)
            for ticket in tickets:
                await ticket.answer
            await asyncio.sleep(0)
        return found

    return asyncio.run(scenario())


def test_who_comes_alone_again_and_again_is_answered_at_once(preparing: Preparing):
    lane = Steady(image_s=0.0015)
    assert turns(preparing, lane, 1, 1, 1) == [[False], [True], [True]]
    assert [thread for thread, _ in lane.batches] == ["device", "MainThread", "MainThread"]


def test_who_comes_with_others_or_after_others_waits_for_a_batch(preparing: Preparing):
    lane = Steady(image_s=0.00001)
    found = turns(preparing, lane, 1, 3, 1, 1)
    assert found == [[False], [True, False, False], [False], [True]]
    assert [len(batch) for _, batch in lane.batches] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(("image_s", "small"), [(0.01, True), (0.0001, False)])
def test_a_slow_model_and_a_large_image_are_never_answered_at_once(preparing: Preparing, image_s: float, small: bool):
    assert turns(preparing, Steady(image_s), 1, 1, 1, small=small) == [[False]] * 3


def test_nothing_is_answered_at_once_beside_a_batch_that_overlaps():
    with prepared(overlap=True) as preparing:
        assert turns(preparing, Steady(image_s=0.0001), 1, 1, 1) == [[False]] * 3


def test_nothing_is_answered_at_once_while_the_device_is_busy(preparing: Preparing):
    busy, lane, let = Steady(image_s=1.0), Steady(image_s=0.0001), threading.Event()

    async def scenario() -> list[bool]:
        loop = asyncio.get_running_loop()
        held = Ticket(busy, lambda: let.wait(30), 1, loop.create_future())
        preparing.submit(held, small=True)
        await asyncio.sleep(0)
        tickets = [Ticket(lane, noted(number), 1, loop.create_future()) for number in range(2)]
        at_once = []
        for ticket in tickets:
            preparing.submit(ticket, small=True)
            at_once.append(ticket.answer.done())
            await asyncio.sleep(0)
        let.set()
        await asyncio.gather(held.answer, *(ticket.answer for ticket in tickets))
        return at_once

    assert asyncio.run(scenario()) == [False, False]


class Failing(Steady):
    """Its forward pass fails when it is told to."""

    fails = False

    def start(self, inputs: Sequence[object]) -> Callable[[], Sequence[object]]:
        if self.fails:
            raise MemoryError
        return super().start(inputs)


def test_a_forward_pass_that_fails_at_once_is_that_requests_answer_and_the_next_one_goes_on(preparing: Preparing):
    lane = Failing(image_s=0.0001)

    async def scenario() -> list[object]:
        loop, found = asyncio.get_running_loop(), list[object]()
        for lane.fails in (False, True, False):
            ticket = Ticket(lane, noted(1), 1, loop.create_future())
            preparing.submit(ticket, small=True)
            assert ticket.answer.done() == bool(found)
            await asyncio.wait([ticket.answer])
            found.append(type(ticket.answer.exception()))
            await asyncio.sleep(0)
        return found

    assert asyncio.run(scenario()) == [type(None), MemoryError, type(None)]


def test_who_has_gone_before_being_answered_at_once_costs_no_forward_pass(preparing: Preparing):
    lane = Steady(image_s=0.0001)
    turns(preparing, lane, 1)

    async def scenario() -> None:
        ticket = Ticket(lane, noted(1), 1, asyncio.get_running_loop().create_future())
        ticket.answer.cancel()
        preparing.submit(ticket, small=True)

    asyncio.run(scenario())
    assert len(lane.batches) == 1


def test_a_request_that_cannot_be_prepared_at_once_fails_alone(preparing: Preparing):
    def broken() -> object:
        raise ValueError("no image")

    async def scenario() -> object:
        loop, lane = asyncio.get_running_loop(), Steady(image_s=0.0001)
        first, second, third = (Ticket(lane, make, 1, loop.create_future()) for make in (noted(1), broken, noted(3)))
        preparing.submit(first, small=True)
        await first.answer
        preparing.submit(second, small=True)
        assert isinstance(second.answer.exception(), ValueError)
        await asyncio.sleep(0)
        preparing.submit(third, small=True)
        return third.answer.result().output[1]

    assert asyncio.run(scenario()) == 3


@pytest.mark.parametrize("image_s", [0.01, float("inf")])
def test_a_slow_or_unknown_model_has_the_devices_thread_even_for_a_small_image(preparing: Preparing, image_s: float):
    lane = Noting(image_s)
    assert answers(preparing, lane, [noted(1)], small=True) == [("device", 1)]
    assert lane.batches[0][0] == "device"


def test_large_images_are_decoded_in_threads_of_their_own(preparing: Preparing):
    lane = Noting(image_s=0.00001)
    found = answers(preparing, lane, [noted(number) for number in range(40)], small=False)
    assert [value for _, value in found] == list(range(40))
    assert {thread.rsplit("_", 1)[0] for thread, _ in found} == {"decode"}
    assert {thread for thread, _ in lane.batches} == {"device"}


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("image_s", [0.00001, 0.01])
def test_a_request_that_cannot_be_prepared_fails_alone(preparing: Preparing, small: bool, image_s: float):
    def broken() -> object:
        raise ValueError("no image")

    found = answers(preparing, Noting(image_s), [noted(1), broken, noted(2)], small=small)
    assert [found[0][1], found[2][1]] == [1, 2]
    assert isinstance(found[1], ValueError)
