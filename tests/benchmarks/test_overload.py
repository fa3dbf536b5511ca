"""Some seconds of the overload, through the same functions, and what must not pass as held."""

import sys
from dataclasses import replace

import pytest

from benchmarks.endurance.loads import Tally
from benchmarks.overload import RECOVERY_S, Overloaded, Plan, overload

PLAN = Plan(seconds=3, capacity_s=2, max_queue=6)


@pytest.fixture(scope="module")
def found() -> Overloaded:
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    return overload(PLAN)


def test_more_is_refused_than_accepted_and_says_when_to_come_again(found: Overloaded):
    offered = found.offered
    assert offered.errors == 0
    assert offered.statuses[429] > offered.statuses[200] > 0
    assert offered.without_retry_after == 0


def test_the_accepted_are_answered_within_a_few_full_queues(found: Overloaded):
    """Twice for the time that refusing takes, twice for a machine that does something else too."""
    assert found.offered.quantile_ms(99) < 4 * found.queue_ms + 500


def test_it_lives_all_the_time_and_recovers(found: Overloaded):
    assert found.alive_ms is not None
    assert found.recovery_s is not None
    assert found.recovery_s <= RECOVERY_S
    assert found.held


def test_what_was_open_is_closed(found: Overloaded):
    assert found.after.files <= found.before.files + 3


@pytest.mark.parametrize("failed", ["status", "silent", "slow", "never", "dead"])
def test_what_fails_once_has_not_held(found: Overloaded, failed: str):
    tally = Tally(found.offered.statuses.copy(), list(found.offered.seconds), lasted_s=1.0)
    broken = replace(found, offered=tally)
    assert broken.held
    if failed == "status":
        tally.statuses[500] += 1
    if failed == "silent":
        tally.without_retry_after += 1
    changes = {"slow": {"recovery_s": 2.1}, "never": {"recovery_s": None}, "dead": {"alive_ms": None}}
    assert not replace(broken, **changes.get(failed, {})).held
