"""Jobs as their users see them, on a real Redis and without a worker."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from moda_core.errors import InvalidInput, NotFound, TrainingFailure, Unavailable
from worker.contract import EvaluateRequest, Keys
from worker.failures import told
from worker.jobs import Jobs
from worker.leases import take


def test_a_submission_is_a_queued_job_with_a_ring(bench, jobs):
    record = jobs.submit(bench.counting())
    assert (record.kind, record.state, record.attempts) == ("decompose", "queued", 0)
    assert record.request == bench.counting().to_json()
    assert jobs.get(record.id) == record
    assert jobs.redis.llen(Keys.DOORBELL) == 1


def test_the_doorbell_carries_the_id_alone(bench, jobs):
    job_id = bench.submit()
    (message,) = jobs.redis.lrange(Keys.DOORBELL, 0, -1)
    assert job_id in jobs.redis.execute_command("LINDEX", Keys.DOORBELL, 0)
    assert "steps" not in message


def test_the_same_work_is_the_same_job_until_it_fails_or_is_cancelled(bench, jobs):
    first = bench.submit()
    assert bench.submit() == first
    lease = take(jobs, first, "w", bench.timing)
    assert bench.submit() == first
    lease.fail(*told(TrainingFailure("broken", "mend it")))
    second = bench.submit()
    assert second != first
    jobs.cancel(second)
    third = bench.submit()
    assert third not in {first, second}
    take(jobs, third, "w", bench.timing).succeed({})
    assert bench.submit() == third
    assert [job.id for job in jobs.list()] == [third, second, first]


def test_a_succeeded_job_counts_while_its_result_is_there(bench, jobs):
    first = jobs.submit(bench.counting())
    take(jobs, first.id, "w", bench.timing).succeed({"models": ["count@1"]})
    asked = []
    assert jobs.submit(bench.counting(), result_exists=lambda job: not asked.append(job.result)).id == first.id
    assert asked == [{"models": ["count@1"]}]
    again = jobs.submit(bench.counting(), result_exists=lambda _job: False)
    assert (again.id == first.id, again.state) == (False, "queued")


def test_work_that_was_asked_to_stop_is_not_what_a_new_submission_gets(bench, jobs):
    first = bench.submit()
    take(jobs, first, "w", bench.timing)
    jobs.cancel(first)
    assert jobs.get(first).state == "running"
    assert bench.submit() != first


def test_a_queued_job_is_cancelled_at_once(bench, jobs):
    job_id = bench.submit()
    assert jobs.cancel(job_id).state == "cancelled"
    assert take(jobs, job_id, "w", bench.timing) is None


@pytest.mark.parametrize("end", ["succeed", "fail", "cancel"])
def test_a_job_that_has_ended_never_changes(bench, jobs, end):
    job_id = bench.submit()
    lease = take(jobs, job_id, "w", bench.timing)
    argument = {"succeed": [{"n": 1}], "fail": told(TrainingFailure("broken", "mend it")), "cancel": []}[end]
    assert getattr(lease, end)(*argument)
    before, events = jobs.get(job_id), jobs.events(job_id)
    assert before.done
    assert getattr(lease, end)(*argument), "said twice by its holder, it is done once"
    writes = [
        lambda: lease.succeed({"n": 2}),
        lambda: lease.fail(*told(TrainingFailure("late", "hurry"))),
        lease.cancel,
        lease.release,
    ]
    others = [
        write for write, name in zip(writes, ("succeed", "fail", "cancel", "release"), strict=True) if name != end
    ]
    assert not any(write() for write in others)
    assert not lease.report("epoch", {})
    assert lease.renew() == "lost"
    assert take(jobs, job_id, "other", bench.timing) is None
    jobs.cancel(job_id)
    assert (jobs.get(job_id), jobs.events(job_id)) == (before, events)


def test_lists_page_from_the_newest(bench, jobs):
    ids = [bench.submit(step=step) for step in range(5)]
    assert [job.id for job in jobs.list(limit=2, offset=1)] == [ids[3], ids[2]]


def test_events_are_read_after_an_id(bench, jobs):
    job_id = bench.submit()
    lease = take(jobs, job_id, "w", bench.timing)
    for epoch in range(1, 4):
        lease.report("epoch", {"epoch": epoch, "loss": 0.5})
    events = jobs.events(job_id)
    assert [event.data for event in events[:2]] == [{"state": "queued"}, {"state": "running"}]
    assert [event.data["epoch"] for event in jobs.events(job_id, events[2].id)] == [2, 3]
    assert jobs.events(job_id, limit=1) == events[:1]
    assert list(jobs.events(job_id, events[-1].id)) == []
    assert jobs.get(job_id).progress == {"event": "epoch", "epoch": 3, "loss": 0.5}
    with pytest.raises(InvalidInput, match="not the id of an event"):
        jobs.events(job_id, "$; drop")


def test_events_keep_a_bounded_number(bench, jobs):
    job_id = bench.submit()
    lease = take(jobs, job_id, "w", bench.timing)
    earlier = jobs.redis.pipeline()
    for step in range(2100):
        earlier.xadd(Keys.EVENTS + job_id, {"event": "progress", "data": json.dumps({"step": step})})
    earlier.execute()
    lease.report("progress", {"step": 2100})
    assert jobs.redis.xlen(Keys.EVENTS + job_id) == 2000
    assert jobs.events(job_id)[0].data == {"step": 101}


def test_events_of_jobs_that_have_ended_go_after_a_month_and_the_record_stays(bench, jobs):
    job_id = bench.submit()
    assert jobs.redis.ttl(Keys.EVENTS + job_id) == -1
    jobs.cancel(job_id)
    assert jobs.redis.ttl(Keys.EVENTS + job_id) == pytest.approx(30 * 24 * 3600, abs=60)
    assert jobs.redis.ttl(Keys.JOB + job_id) == -1


@pytest.mark.parametrize("job_id", ["0123456789abcdef", "", "../x", "0123456789ABCDEF\n"])
def test_a_job_that_does_not_exist_is_not_found(jobs, job_id):
    for call in (jobs.get, jobs.cancel, jobs.events):
        with pytest.raises(NotFound):
            call(job_id)
    assert jobs.redis.dbsize() == 0


def test_a_job_says_what_it_waits_for(bench, jobs):
    job_id = bench.submit()
    assert jobs.get(job_id).waiting == "no worker is connected"
    jobs.scripts.present(args=["w", 60_000])
    assert jobs.get(job_id).waiting is None
    take(jobs, bench.submit(name="other"), "w", bench.timing)
    assert jobs.get(job_id).waiting == "every worker is busy"
    jobs.scripts.present(args=["w", 0])
    assert jobs.get(job_id).waiting == "no worker is connected"
    assert jobs.redis.zcard(Keys.WORKERS) == 0


def test_a_silent_redis_is_unavailable_within_seconds_and_then_comes_back(bench, jobs):
    job_id = bench.submit()
    os.kill(bench.redis.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            jobs.get(job_id)
        assert time.monotonic() - began < 10
    finally:
        os.kill(bench.redis.pid, signal.SIGCONT)
    assert jobs.get(job_id).state == "queued"


def test_without_redis_every_call_says_so_at_once_and_comes_back_by_itself(bench, jobs):
    job_id = bench.submit()
    os.kill(bench.redis.pid, signal.SIGKILL)
    bench.until(lambda: bench.redis.exited() is not None)
    calls = [
        lambda: jobs.submit(bench.counting()),
        lambda: jobs.get(job_id),
        jobs.list,
        lambda: jobs.cancel(job_id),
        lambda: jobs.events(job_id),
        jobs.workers,
        jobs.check,
    ]
    began = time.monotonic()
    for call in calls:
        with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:\d+ does not answer .*come back by themselves"):
            call()
    assert not jobs.ring(job_id)
    assert time.monotonic() - began < 5
    bench.redis.start()
    jobs.check()
    assert jobs.get(job_id).state == "queued", "the record was lost with Redis"
    assert jobs.ring(job_id)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="redis://"):
        Jobs("http://nowhere")


def test_kinds_do_not_mix(bench, jobs):
    record = jobs.submit(EvaluateRequest(model="m", dataset="d", labels=("a", "b")))
    assert (record.kind, record.request["labels"]) == ("evaluate", ["a", "b"])
