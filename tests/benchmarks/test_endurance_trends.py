"""A slope, its error, and whether it is growth: by hand, against scipy, and on data that leak or only look like it."""

import numpy as np
import pytest
from scipy.stats import linregress

from benchmarks.endurance.trends import last_half, trend

REQUESTS = np.arange(0, 100_000, 400.0)
MEGABYTE = 1e6


def noise(seed: int, *, alike: float, size: float = MEGABYTE) -> np.ndarray:
    """Values of which each resembles the one before, as memory does."""
    drawn = np.random.default_rng(seed).normal(0, size, len(REQUESTS))
    for place in range(1, len(drawn)):
        drawn[place] = alike * drawn[place - 1] + (1 - alike**2) ** 0.5 * drawn[place]
    return drawn


def test_a_slope_worked_by_hand():
    """Residuals -0.1, 0.3, -0.3, 0.1 around 1.1 + 0.6 x; no residual resembles the next."""
    found = trend([0, 1, 2, 3], [1.0, 2.0, 2.0, 3.0])
    assert found.slope == pytest.approx(0.6)
    assert found.error == pytest.approx((0.2 / 2 / 5) ** 0.5)


def test_independent_values_have_the_error_of_the_textbook():
    values = 3.0 * REQUESTS + np.where(np.arange(len(REQUESTS)) % 2, MEGABYTE, -MEGABYTE)
    reference, found = linregress(REQUESTS, values), trend(REQUESTS, values)
    assert (found.slope, found.error) == pytest.approx((reference.slope, reference.stderr))


def test_values_that_resemble_their_neighbours_are_less_sure():
    alike = noise(0, alike=0.9)
    assert trend(REQUESTS, alike).error > 2.5 * linregress(REQUESTS, alike).stderr


@pytest.mark.parametrize("leaked", [150, 1_000, 50_000])
def test_a_leak_is_growth(leaked: int):
    values = 9e8 + leaked * REQUESTS + noise(1, alike=0.8)
    assert last_half(REQUESTS, values).grows(tolerated=100)


def test_a_leak_that_comes_in_steps_is_growth():
    """An allocator takes memory in blocks: 8 MB each time that 1 kB per request have filled them."""
    values = 9e8 + np.floor(1000 * REQUESTS / 8e6) * 8e6 + noise(2, alike=0.0, size=1e5)
    assert last_half(REQUESTS, values).grows(tolerated=100)


def test_noise_is_not_growth_nineteen_times_in_twenty():
    grown = [trend(REQUESTS, noise(seed, alike=0.8)).grows(tolerated=0) for seed in range(200)]
    assert sum(grown) <= 14
    naive = [linregress(REQUESTS, noise(seed, alike=0.8)) for seed in range(200)]
    assert sum(one.slope > 2 * one.stderr for one in naive) > 40  # what the correction is for


def test_warm_up_is_not_growth():
    values = 9e8 + np.minimum(REQUESTS, 40_000) * 2_000 + noise(3, alike=0.5)
    assert not last_half(REQUESTS, values).grows(tolerated=100)
    assert trend(REQUESTS, values).slope > 500


def test_growth_below_what_is_tolerated_is_none():
    exact = 9e8 + 50 * REQUESTS
    assert not trend(REQUESTS, exact).grows(tolerated=100)
    assert trend(REQUESTS, exact).grows(tolerated=10)


def test_shrinking_is_not_growth():
    assert not trend(REQUESTS, 9e8 - 5_000 * REQUESTS).grows(tolerated=100)


def test_what_is_not_ruled_out_is_two_errors_above():
    found = trend([0, 1, 2, 3], [1.0, 2.0, 2.0, 3.0])
    assert found.at_most == pytest.approx(found.slope + 2 * found.error)


@pytest.mark.parametrize("steps", [[0, 1, 2], [5, 5, 5, 5]])
def test_too_little_has_no_trend(steps: list[float]):
    with pytest.raises(ValueError, match="4 values at different steps"):
        trend(steps, [1.0] * len(steps))
