"""The progress line: counts, rate and time left."""

from __future__ import annotations

from io import StringIO

import pytest

from experiments.progress import Progress, duration


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.44, "0.4s"), (59.4, "59s"), (185, "3m05s"), (7800, "2h10m"), (59.7, "1m00s")]
)
def test_durations_read_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_what_was_done_before_says_nothing_of_the_speed() -> None:
    clock = Clock()
    progress = Progress("reuse", 110, done=50, stream=StringIO(), clock=clock)
    clock.now = 5.0
    progress.advance(10)
    assert progress.line("k 3") == "reuse 60/110, 2/s, 25s left  k 3"


def test_slow_steps_are_told_by_their_time() -> None:
    clock = Clock()
    progress = Progress("epochs", 10, stream=StringIO(), clock=clock)
    clock.now = 240.0
    progress.advance(2)
    assert progress.line() == "epochs 2/10, 2m00s each, 16m00s left"


def test_a_log_gets_few_lines() -> None:
    clock, stream = Clock(), StringIO()
    with Progress("reuse", 1000, stream=stream, clock=clock) as progress:
        for _ in range(100):
            clock.now += 1.0
            progress.advance()
    assert stream.getvalue().splitlines() == [
        "reuse 30/1000, 1/s, 16m10s left",
        "reuse 60/1000, 1/s, 15m40s left",
        "reuse 90/1000, 1/s, 15m10s left",
        "reuse 100/1000, 1/s, 15m00s left",
    ]


def test_nothing_done_says_nothing() -> None:
    stream = StringIO()
    with Progress("reuse", 10, done=10, stream=stream):
        pass
    assert stream.getvalue() == ""
