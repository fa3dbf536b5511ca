"""A part of the soak, small enough for every day, through the same functions."""

import sys
from collections import Counter

import pytest

from benchmarks.endurance.subsets import drawn_subsets, popular
from benchmarks.soak import Plan, requests_of, soak

LABELS = [f"class {row}" for row in range(10)]
LEAK = 15_000
"""Bytes per request: a tenth of what every composition would take that is never freed, and far above warm-up."""


def test_subsets_differ_in_their_classes():
    subsets = drawn_subsets(LABELS, 300, seed=0)
    assert len({frozenset(one) for one in subsets}) == 300
    assert {len(one) for one in subsets} == {2, 3, 4, 5}


def test_more_subsets_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="no 30 subsets"):
        drawn_subsets(LABELS[:5], 30, seed=0)


def test_some_subsets_are_asked_for_more_than_others_and_each_at_some_time():
    places = popular(300, 100_000, seed=0)
    assert set(places) == set(range(300))
    # Weights 1 and 1 / 2^1.2.
    assert places.count(0) / places.count(1) == pytest.approx(2**1.2, rel=0.05)


def test_every_kind_of_request_is_for_every_subset():
    """The most popular one is asked for in each of the three ways, and so are others."""
    plan = Plan(requests=5_000, subsets=20)
    subsets = drawn_subsets(LABELS, plan.subsets, plan.seed)
    kinds = Counter(requests_of(plan, subsets, [f"{place:064x}" for place in range(plan.subsets)]))
    assert len(kinds) == 3 * plan.subsets
    composing = sum(count for content, count in kinds.items() if content.startswith(b"POST /compose"))
    assert composing / plan.requests == pytest.approx(0.1, abs=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_part_of_the_soak_has_no_error_and_leaks_nothing():
    found = soak(Plan(requests=2_000, subsets=40, cache_models=10, loads=50, interval_s=0.1))
    asked, loads = (one.row for one in found.phases)
    assert (asked["what"], loads["what"]) == ("2,000 requests", "100 loads")
    for row in (asked, loads):
        assert row["errors"] == 0
        assert row["p50 ms"] <= row["p99 ms"]
        assert row["files"][1] <= row["files"][0] + 3  # a connection that has not been closed yet, and its like
    # The cache was too small, so compositions were made again all the time; and it kept to its bound.
    assert found.cache["evictions"] > 50
    assert found.cache["composed"] > 50
    assert found.cache["hits"] > 100
    assert 5 <= found.cache["models"] <= 16
    for one in found.phases:
        assert not one.samples.growth("anonymous").grows(tolerated=LEAK), one.row
