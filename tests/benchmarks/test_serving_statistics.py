"""Medians with intervals, paired ratios, and when the serving benchmark calls something a difference."""

import math

import pytest

from benchmarks.serving.intervals import Interval, interval, paired_ratio


def test_the_interval_holds_the_median_and_lies_within_the_values():
    found = interval([5.0, 1.0, 3.0, 2.0, 4.0, 7.0, 6.0])
    assert found.median == 4
    assert 1 <= found.low < 4 < found.high <= 7


def test_equal_rounds_leave_no_room():
    assert interval([2.0] * 7) == Interval(2.0, 2.0, 2.0, 7)


def test_the_same_rounds_give_the_same_interval():
    values = [1.0, 1.3, 0.9, 1.1, 1.6]
    assert interval(values) == interval(values)


def test_pairing_by_rounds_cancels_what_slowed_both():
    """Rounds that differ tenfold, and a ratio of two in each."""
    theirs = [10.0, 100.0, 30.0, 70.0, 20.0]
    found = paired_ratio([2 * value for value in theirs], theirs)
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_rounds_must_be_the_same():
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0, 2.0], [1.0])


def test_a_figure_of_zero_gives_no_ratio():
    assert math.isnan(paired_ratio([1.0], [0.0]).median)
    assert not paired_ratio([1.0] * 5, [0.0] * 5).differs_from_one


def test_nearly_all_intervals_of_equal_servers_hold_one():
    """Two servers of one speed, 10 % noise, 7 rounds: what is called a difference is rare."""
    import numpy as np

    drawn = np.random.default_rng(1).lognormal(0, 0.1, (200, 2, 7))
    called = [paired_ratio(list(ours), list(theirs)).differs_from_one for ours, theirs in drawn]
    assert sum(called) <= 30


@pytest.mark.parametrize(
    ("low", "high", "rounds", "differs"),
    [(1.1, 1.4, 7, True), (0.6, 0.9, 7, True), (0.9, 1.4, 7, False), (1.0, 1.4, 7, False), (1.1, 1.4, 2, False)],
)
def test_a_difference_needs_three_rounds_and_an_interval_beside_one(low, high, rounds, differs):
    assert Interval(1.0, low, high, rounds).differs_from_one is differs


@pytest.mark.parametrize(
    ("low", "median", "high", "verdict"),
    [
        (2.0, 2.3, 2.5, "met"),
        (1.2, 1.5, 1.9, "not met"),
        (1.9, 2.1, 2.5, "within noise (met by the median)"),
        (1.5, 1.9, 2.1, "within noise (not met by the median)"),
    ],
)
def test_a_goal_is_met_by_the_whole_interval(low, median, high, verdict):
    assert Interval(median, low, high, 7).against(2.0) == verdict


def test_a_goal_may_be_an_upper_bound():
    assert Interval(0.4, 0.3, 0.5, 7).against(0.5, at_most=True) == "met"
    assert Interval(0.6, 0.55, 0.7, 7).against(0.5, at_most=True) == "not met"


def test_one_round_shows_nothing():
    assert Interval(3.0, 3.0, 3.0, 1).against(2.0) == "too few rounds (met by the median)"
