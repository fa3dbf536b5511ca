"""Nothing that was submitted waits unheard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moda_core.errors import Unavailable
from worker.contract import Keys
from worker.leases import take
from worker.reaper import Reaper


@pytest.fixture
def reaper(bench, jobs):
    return Reaper(jobs, bench.timing)


def sweep(jobs, reaper):
    """A sweep whose turn it is."""
    jobs.redis.delete(Keys.REAPER)
    return list(reaper.sweep())


def unheard(jobs, *job_ids):
    """Let the rings for jobs be lost, and long ago."""
    jobs.redis.delete(Keys.DOORBELL)
    jobs.redis.zadd(Keys.QUEUED, dict.fromkeys(job_ids, 1), xx=True)


def test_a_job_whose_ring_was_lost_is_rung_for_again(bench, jobs, reaper):
    job_id = bench.submit()
    jobs.redis.delete(Keys.DOORBELL)
    assert sweep(jobs, reaper) == [], "it has just been rung for"
    unheard(jobs, job_id)
    assert sweep(jobs, reaper) == [job_id]
    assert jobs.redis.llen(Keys.DOORBELL) == 1
    jobs.redis.delete(Keys.DOORBELL)
    assert sweep(jobs, reaper) == [], "the next ring is due a whole period later"


def test_rings_that_nobody_hears_do_not_pile_up(bench, jobs, reaper):
    ids = [bench.submit(name=name) for name in ("a", "b")]
    unheard(jobs, *ids)
    assert sorted(sweep(jobs, reaper)) == sorted(ids)
    for _ in range(3):
        jobs.redis.zadd(Keys.QUEUED, dict.fromkeys(ids, 1))
        assert sweep(jobs, reaper) == []
    assert jobs.redis.llen(Keys.DOORBELL) == 2


def test_an_ended_lease_is_rung_for_and_a_held_one_is_not(bench, jobs, reaper):
    held, lost = bench.submit(name="held"), bench.submit(name="lost")
    for job_id in (held, lost):
        take(jobs, job_id, "w", bench.timing)
    jobs.redis.delete(Keys.DOORBELL)
    jobs.redis.zadd(Keys.RUNNING, {lost: 1})
    assert sweep(jobs, reaper) == [lost]
    assert jobs.get(lost).state == "running"


def test_the_last_lost_lease_is_settled_without_a_worker(bench, jobs):
    job_id = bench.submit()
    take(jobs, job_id, "w", bench.timing)
    jobs.redis.zadd(Keys.RUNNING, {job_id: 1})
    assert sweep(jobs, Reaper(jobs, replace(bench.timing, max_lost_leases=1))) == []
    assert jobs.get(job_id).state == "failed"


def outage(jobs, seconds):
    """Let nobody have reached Redis for some time."""
    seconds_now, _ = jobs.redis.time()
    jobs.redis.set(Keys.SWEPT, int((seconds_now - seconds) * 1000))
    for job_id in jobs.redis.zrange(Keys.RUNNING, 0, -1):
        jobs.redis.zadd(Keys.RUNNING, {job_id: 1})


@pytest.mark.parametrize("back_first", ["reaper", "other worker"])
def test_time_without_redis_counts_against_no_lease(bench, jobs, back_first):
    timing = replace(bench.timing, lease_s=60.0, max_lost_leases=1)
    reaper, job_id = Reaper(jobs, timing), bench.submit()
    assert sweep(jobs, reaper) == []
    lease = take(jobs, job_id, "w", timing)
    outage(jobs, 100)
    if back_first == "reaper":
        assert sweep(jobs, reaper) == []
    assert take(jobs, job_id, "other", timing) is None
    assert (jobs.get(job_id).state, jobs.get(job_id).lost_leases) == ("running", 0)
    assert lease.renew() == "held"


def test_a_lease_is_given_time_once(bench, jobs, reaper):
    job_id = bench.submit()
    sweep(jobs, reaper)
    take(jobs, job_id, "w", bench.timing)
    outage(jobs, 100)
    assert sweep(jobs, reaper) == []
    jobs.redis.zadd(Keys.RUNNING, {job_id: 1})
    jobs.redis.delete(Keys.DOORBELL)
    assert sweep(jobs, reaper) == [job_id]


def test_one_sweeps_at_a_time(bench, jobs, reaper):
    unheard(jobs, bench.submit())
    assert len(reaper.sweep()) == 1
    assert list(Reaper(jobs, bench.timing).sweep()) == []


def test_the_thread_rings_and_survives_redis(bench, jobs, reaper):
    reaper.start()
    try:
        bench.redis.stop()
        with pytest.raises(Unavailable):
            reaper.sweep()
        bench.redis.start()
        job_id = bench.submit()
        unheard(jobs, job_id)
        bench.until(lambda: jobs.redis.llen(Keys.DOORBELL) == 1)
    finally:
        reaper.stop()
