"""Who may write to a job: the holder of its newest token, and nobody else."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moda_core.errors import TrainingFailure, UnreadableFile
from worker.contract import TERMINAL, Keys
from worker.failures import told
from worker.heartbeat import Heartbeat
from worker.leases import take


def expire(jobs, job_id):
    """Let the lease of a running job have ended."""
    jobs.redis.zadd(Keys.RUNNING, {job_id: 1}, xx=True)


def test_a_job_is_held_by_one(bench, jobs):
    job_id = bench.submit()
    lease = take(jobs, job_id, "first", bench.timing)
    assert (lease.token, lease.record.state, lease.record.worker) == (1, "running", "first")
    assert take(jobs, job_id, "second", bench.timing) is None


def now_ms(jobs):
    seconds, micros = jobs.redis.time()
    return seconds * 1000 + micros / 1000


def test_a_lease_ends_by_redis_clock(bench, jobs):
    job_id = bench.submit()
    long = replace(bench.timing, lease_s=600.0)
    before = now_ms(jobs)
    first = take(jobs, job_id, "first", long)
    assert before + 599_999 <= jobs.redis.zscore(Keys.RUNNING, job_id) <= now_ms(jobs) + 600_000
    assert take(jobs, job_id, "second", long) is None
    jobs.redis.zadd(Keys.RUNNING, {job_id: int(now_ms(jobs))})
    second = take(jobs, job_id, "second", bench.timing)
    assert (first.token, second.token) == (1, 2)
    assert jobs.get(job_id).lost_leases == 1


def test_a_stale_token_is_refused_every_write(bench, jobs):
    job_id = bench.submit()
    stale = take(jobs, job_id, "first", bench.timing)
    expire(jobs, job_id)
    lease = take(jobs, job_id, "second", bench.timing)
    before, events = jobs.get(job_id), jobs.events(job_id)
    assert (stale.renew(), stale.look()) == ("lost", "lost")
    writes = [
        stale.succeed({"stale": True}),
        stale.fail(*told(TrainingFailure("stale", "wait"))),
        stale.cancel(),
        stale.release(),
    ]
    assert not any([*writes, stale.report("epoch", {})])
    assert (jobs.get(job_id), jobs.events(job_id)) == (before, events)
    assert lease.succeed({"stale": False})
    assert jobs.get(job_id).result == {"stale": False}


def test_a_lease_that_ran_out_is_held_again_if_nobody_took_the_job(bench, jobs):
    job_id = bench.submit()
    lease = take(jobs, job_id, "w", bench.timing)
    expire(jobs, job_id)
    assert jobs.get(job_id).waiting.startswith("its worker is gone")
    assert lease.renew() == "held"
    assert take(jobs, job_id, "other", bench.timing) is None
    assert (jobs.get(job_id).waiting, jobs.get(job_id).lost_leases) == (None, 0)


def test_the_third_lost_lease_fails_the_job_with_the_reason(bench, jobs):
    job_id = bench.submit()
    for number in range(3):
        assert take(jobs, job_id, f"w{number}", bench.timing)
        expire(jobs, job_id)
    assert take(jobs, job_id, "w3", bench.timing) is None
    record = jobs.get(job_id)
    assert (record.state, record.lost_leases) == ("failed", 3)
    assert record.error.startswith("its worker vanished 3 times without a word, last w2")
    assert jobs.events(job_id)[-1].data == {"state": "failed", "error": record.error}
    assert record.problem["code"] == "unavailable"
    assert record.error.endswith(record.problem["remedy"])


def test_a_released_job_is_queued_and_rung_for(bench, jobs):
    job_id = bench.submit()
    jobs.redis.delete(Keys.DOORBELL)
    assert take(jobs, job_id, "w", bench.timing).release()
    assert (jobs.get(job_id).state, jobs.get(job_id).lost_leases) == ("queued", 0)
    assert jobs.redis.llen(Keys.DOORBELL) == 1


def test_a_cancelled_job_whose_worker_vanished_or_let_go_is_cancelled(bench, jobs):
    released, vanished, later = (bench.submit(name=name) for name in ("a", "b", "c"))
    lease = take(jobs, released, "w", bench.timing)
    for job_id in (vanished, later):
        take(jobs, job_id, "w", bench.timing)
    for job_id in (released, later):
        jobs.cancel(job_id)
    lease.release()
    expire(jobs, vanished)
    expire(jobs, later)
    assert jobs.cancel(vanished).state == "cancelled"
    assert take(jobs, later, "w", bench.timing) is None
    assert [jobs.get(job_id).state for job_id in (released, vanished, later)] == ["cancelled"] * 3


def test_a_repeated_call_of_one_taker_gets_its_own_lease(bench, jobs):
    arguments = [bench.submit(), "w", "attempt-1", 60_000, 3]
    assert jobs.scripts.take(args=arguments) == ["taken", 1]
    assert jobs.scripts.take(args=arguments) == ["taken", 1]


def test_a_result_that_is_no_json_is_refused_before_the_job_ends(bench, jobs):
    lease = take(jobs, bench.submit(), "w", bench.timing)
    for result in ({"accuracy": float("nan")}, {"label": "\udc80"}):
        with pytest.raises(ValueError, match=r"JSON|surrogates"):
            lease.succeed(result)
    assert jobs.get(lease.record.id).state == "running"


def test_a_failure_of_any_text_ends_the_job(bench, jobs):
    lease = take(jobs, bench.submit(), "w", bench.timing)
    assert lease.fail(*told(UnreadableFile("file", "a\udc80.png", "no image \udc80", "look at a\udc80.png")))
    record = jobs.get(lease.record.id)
    assert (record.state, "no image \\udc80" in record.error) == ("failed", True)
    assert record.problem == {
        "code": "unreadable-file",
        "field": "file",
        "value": "a\\udc80.png",
        "remedy": "look at a\\udc80.png",
    }


STEPS = st.lists(
    st.sampled_from(["take", "expire", "renew", "report", "succeed", "fail", "cancel", "release", "stop"]), max_size=25
)


@given(steps=STEPS, which=st.lists(st.integers(0, 5), min_size=25, max_size=25))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_one_holds_tokens_grow_and_the_end_is_final(bench, jobs, steps, which):
    jobs.redis.flushall()
    job_id, leases = bench.submit(), []
    for step, pick in zip(steps, which, strict=False):
        before = jobs.get(job_id)
        lease = leases[pick % len(leases)] if leases else None
        accepted = act(bench, job_id, step, lease, leases)
        after = jobs.get(job_id)
        if before.done:
            assert after == before
        if step not in {"take", "expire", "stop"} and lease and accepted and not before.done:
            assert before.state == "running"
            assert lease.token == before.attempts, "a stale token was let in"
        assert [taken.token for taken in leases] == list(range(1, after.attempts + 1))
        assert after.lost_leases <= bench.timing.max_lost_leases
        assert (jobs.redis.zscore(Keys.QUEUED, job_id) is not None) == (after.state == "queued")
        assert (jobs.redis.zscore(Keys.RUNNING, job_id) is not None) == (after.state == "running")
    ends = [event for event in jobs.events(job_id) if event.data.get("state") in TERMINAL]
    assert len(ends) == int(jobs.get(job_id).done)


def act(bench, job_id, step, lease, leases):
    """One step of whoever; True when a lease's write was let in."""
    if step == "take":
        leases.extend(taken for taken in [take(bench.jobs, job_id, "w", bench.timing)] if taken)
    elif step == "expire":
        expire(bench.jobs, job_id)
    elif step == "stop":
        bench.jobs.cancel(job_id)
    elif lease:
        argument = {"report": ("epoch", {}), "succeed": ({},), "fail": told(TrainingFailure("broken", "wait"))}.get(
            step, ()
        )
        return getattr(lease, step)(*argument) not in {False, "lost"}
    return False


@pytest.fixture
def heartbeat(bench, jobs):
    heartbeat = Heartbeat(jobs, "w", bench.timing)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def test_a_heartbeat_keeps_the_job_and_the_worker_present(bench, jobs, heartbeat):
    job_id = bench.submit()
    heartbeat.watch(take(jobs, job_id, "w", bench.timing))
    end = jobs.redis.zscore(Keys.RUNNING, job_id)
    bench.until(lambda: jobs.redis.zscore(Keys.RUNNING, job_id) > end + 500)
    assert list(jobs.workers()) == ["w"]
    assert heartbeat.holding == "held"


def test_a_renewal_that_fails_is_tried_again_at_once_and_not_a_period_later(bench, jobs, caplog):
    rare = replace(bench.timing, lease_s=1200.0, heartbeat_s=600.0)
    heartbeat = Heartbeat(jobs, "w", rare)
    lease = take(jobs, bench.submit(), "w", rare)
    bench.redis.stop()
    with caplog.at_level(logging.WARNING, "worker.heartbeat"):
        heartbeat.watch(lease)
        heartbeat.start()
        bench.until(lambda: "no heartbeat" in caplog.text)
    bench.redis.start()
    try:
        bench.until(lambda: list(jobs.workers()) == ["w"])
    finally:
        heartbeat.stop()


def test_a_heartbeat_sees_cancellation_and_loss(bench, jobs, heartbeat):
    job_id = bench.submit()
    heartbeat.watch(take(jobs, job_id, "w", bench.timing))
    jobs.cancel(job_id)
    bench.until(lambda: heartbeat.holding == "cancel")
    other = bench.submit(name="other")
    heartbeat.watch(take(jobs, other, "w", bench.timing))
    assert heartbeat.holding == "held"
    jobs.redis.hincrby(Keys.JOB + other, "token", 1)
    bench.until(lambda: heartbeat.holding == "lost")
