"""Jobs done by a real worker process on a real Redis."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace

from worker.contract import EvaluateRequest


def test_a_job_is_done_published_and_told_step_by_step(bench):
    bench.start_worker()
    record = bench.ended(bench.submit(steps=3))
    assert record.state == "succeeded"
    assert record.result == {"models": ["count@1"], "digests": [f"{record.digest}-1"], "from": 0}
    assert (record.attempts, record.lost_leases, record.waiting, record.error) == (1, 0, None, None)
    assert record.created_at <= record.started_at <= record.finished_at
    told = [(event.event, event.data.get("state") or event.data.get("epoch")) for event in bench.jobs.events(record.id)]
    expected = [("state", "queued"), ("state", "running"), ("epoch", 1), ("epoch", 2), ("epoch", 3)]
    assert told == [*expected, ("computed", None), ("state", "succeeded")]


def test_a_result_that_is_no_model_is_the_jobs_result(bench):
    bench.start_worker()
    record = bench.ended(bench.jobs.submit(EvaluateRequest(model=json.dumps({"steps": 2}), dataset="d")).id)
    assert (record.state, record.result) == ("succeeded", {"counted": 2})


def test_many_rings_do_a_job_once(bench):
    job_id = bench.submit()
    for _ in range(5):
        bench.jobs.ring(job_id)
    bench.start_worker()
    bench.start_worker()
    bench.ended(job_id)
    last = bench.ended(bench.submit(steps=1, name="other"))
    assert last.state == "succeeded"
    assert [attempt[0] for attempt in bench.attempts()] == [job_id, last.id]


def test_a_job_waits_for_a_worker_and_says_so(bench):
    job_id = bench.submit()
    assert bench.jobs.get(job_id).waiting == "no worker is connected"
    worker = bench.start_worker()
    assert bench.ended(job_id).state == "succeeded"
    assert len(bench.jobs.workers()) == 1
    worker.terminate()
    assert worker.wait(10) == 0
    assert list(bench.jobs.workers()) == []


def test_a_running_job_is_cancelled_between_two_steps(bench):
    bench.start_worker()
    job_id = bench.submit(steps=1000, pause_s=0.02)
    bench.until(lambda: bench.jobs.get(job_id).progress)
    assert bench.jobs.cancel(job_id).cancel_requested
    record = bench.ended(job_id)
    assert (record.state, record.result) == ("cancelled", None)
    assert bench.versions() == []


def test_a_failure_is_the_jobs_error_and_the_worker_goes_on(bench):
    bench.start_worker()
    failed = bench.ended(bench.submit(fail_at=1))
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert failed.error == "the loss is not finite in epoch 3; lower the learning rate"
    assert bench.ended(bench.submit(break_at=1)).error == "ZeroDivisionError: counting by zero"
    assert bench.ended(bench.submit()).state == "succeeded"


def test_a_killed_workers_job_goes_on_from_its_checkpoint_and_ends_once(bench):
    first = bench.start_worker()
    job_id = bench.submit(steps=40, pause_s=0.05)
    bench.until_step(job_id, 5)
    first.kill()
    first.wait()
    bench.until(lambda: bench.jobs.get(job_id).waiting == "its worker is gone; no worker is connected")
    assert bench.jobs.get(job_id).state == "running"
    bench.start_worker()
    bench.start_worker()
    record = bench.ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 2, 1)
    assert record.result["from"] >= 5
    assert bench.attempts() == [(job_id, 1), (job_id, 2)]
    assert bench.versions() == ["count-000001"]


def test_a_job_that_kills_its_workers_fails_after_three(bench):
    job_id = bench.submit(die_at=1, deaths=9)
    for _ in range(3):
        assert bench.start_worker().wait(20) == -signal.SIGKILL
    bench.start_worker()
    record = bench.ended(job_id)
    assert (record.state, record.lost_leases, record.attempts) == ("failed", 3, 3)
    assert record.error.startswith("its worker vanished 3 times")
    assert len(bench.attempts()) == 3


def test_a_worker_that_is_told_to_end_hands_its_job_back(bench):
    first = bench.start_worker()
    job_id = bench.submit(steps=60, pause_s=0.05)
    bench.until_step(job_id, 3)
    first.terminate()
    assert first.wait(10) == 0
    record = bench.jobs.get(job_id)
    assert (record.state, record.waiting) == ("queued", "no worker is connected")
    bench.start_worker()
    record = bench.ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 2, 0)
    assert record.result["from"] >= 3


def test_what_an_earlier_attempt_published_is_adopted(bench):
    job_id = bench.submit()
    (bench.folder / f"publication-{job_id}").write_text(json.dumps(["earlier"]))
    bench.start_worker()
    record = bench.ended(job_id)
    assert (record.state, record.result) == ("succeeded", {"models": ["count@1"], "digests": ["earlier"]})
    assert bench.attempts() == []


def test_a_running_job_outlives_redis(bench):
    bench.start_worker()
    job_id = bench.submit(steps=60, pause_s=0.05)
    bench.until_step(job_id, 3)
    os.kill(bench.redis.pid, signal.SIGKILL)
    bench.until(lambda: bench.redis.exited() is not None)
    bench.redis.start()
    record = bench.ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 1, 0)
    assert bench.versions() == ["count-000001"]
    assert bench.ended(bench.submit()).state == "succeeded", "the worker does not hear the doorbell any more"


def test_a_healthy_job_outlives_a_redis_that_was_away_for_longer_than_a_lease(bench):
    # A lease that a machine's own stalls do not outlast: one that is lost ends the job here.
    bench.timing = replace(bench.timing, lease_s=5.0, max_lost_leases=1)
    bench.start_worker()
    job_id = bench.submit(steps=200, pause_s=0.05)
    bench.start_worker()
    bench.until_step(job_id, 3)
    bench.redis.stop()
    time.sleep(1.5 * bench.timing.lease_s)
    bench.redis.start()
    record = bench.ended(job_id)
    assert (record.state, record.error, record.attempts) == ("succeeded", None, 1)
    assert bench.versions() == ["count-000001"]


def test_a_job_that_ends_while_redis_is_gone_succeeds_when_it_is_back(bench):
    bench.start_worker()
    request = bench.counting(steps=20, pause_s=0.05)
    job_id = bench.jobs.submit(request).id
    bench.until(lambda: bench.jobs.get(job_id).progress)
    step = bench.folder / f"step-{bench.jobs.get(job_id).digest}"
    bench.redis.stop()
    bench.until(lambda: step.read_text() == "20")
    bench.redis.start()
    assert bench.ended(job_id).state == "succeeded"
    assert len(bench.attempts()) == 1


def test_a_worker_can_start_and_end_without_redis(bench):
    bench.redis.stop()
    worker, ending = bench.start_worker(), bench.start_worker()
    try:
        bench.until(lambda: bench.log.read_text().count("Cannot connect to") >= 2)
        ending.terminate()
        assert ending.wait(15) == 0
    finally:
        bench.redis.start()
    assert bench.ended(bench.submit()).state == "succeeded"
    assert worker.poll() is None
