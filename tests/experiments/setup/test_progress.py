"""The progress line: counts, rate and time left."""

from __future__ import annotations

from io import StringIO

import pytest

from experiments.setup.progress import Line, Progress, duration, epochs
from moda_core.training.reports import EpochReport


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
    progress = Progress("reuse", 110, done=50, line=Line(StringIO(), clock))
    clock.now = 5.0
    progress.advance(10)
    assert progress.text() == "reuse 60/110, 2/s, 25s left"


def test_slow_steps_are_told_by_their_time() -> None:
    clock = Clock()
    progress = Progress("epochs", 10, line=Line(StringIO(), clock))
    clock.now = 240.0
    progress.advance(2)
    assert progress.text() == "epochs 2/10, 2m00s each, 16m00s left"


def test_a_log_gets_few_lines() -> None:
    clock, stream = Clock(), StringIO()
    with Progress("reuse", 1000, line=Line(stream, clock)) as progress:
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
    with Progress("reuse", 10, done=10, line=Line(stream)):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line_that_is_rewritten_and_kept_at_the_end() -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    clock, stream = Clock(), Terminal()
    with Progress("reuse", 3, line=Line(stream, clock)) as progress:
        for _ in range(3):
            clock.now += 1.0
            progress.advance()
    assert stream.getvalue().count("\r\x1b[K") == 4
    assert stream.getvalue().endswith("reuse 3/3, 1/s, 0.0s left\n")
    assert stream.getvalue().count("\n") == 1


def test_epochs_are_told_with_what_training_reports() -> None:
    stream = StringIO()
    epochs("training MODA", Line(stream))(
        EpochReport(
            epoch=2,
            epochs=2,
            loss=1.25,
            cross_entropy=1.0,
            terms={},
            accuracy=0.5,
            learning_rate=0.05,
            samples_per_s=451.0,
            seconds=2.0,
            remaining_s=0.0,
        )
    )
    assert stream.getvalue() == ("training MODA: epoch 2/2, loss 1.2500, accuracy 0.5000, 451 images/s, 0.0s left\n")
