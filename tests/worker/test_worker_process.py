"""Jobs done by a real worker process on a real Redis."""

from __future__ import annotations

import json
import os
import signal

from worker.contract import EvaluateRequest


def attempts(folder):
    """(job, token, process) of every attempt, in order."""
    lines = (folder / "attempts").read_text().splitlines() if (folder / "attempts").exists() else []
    return [tuple(line.split()) for line in lines]


def versions(folder):
    return sorted(path.name for path in folder.glob("count-*"))


def test_a_job_is_done_published_and_told_step_by_step(jobs, counting, start_worker, ended, folder):
    start_worker()
    record = ended(jobs.submit(counting(steps=3)).id)
    assert record.state == "succeeded"
    assert record.result == {"models": ["count@1"], "digests": [f"{record.digest}-1"], "from": 0}
    assert (record.attempts, record.lost_leases, record.waiting, record.error) == (1, 0, None, None)
    assert record.created_at <= record.started_at <= record.finished_at
    told = [(event.event, event.data.get("state") or event.data.get("epoch")) for event in jobs.events(record.id)]
    expected = [("state", "queued"), ("state", "running"), ("epoch", 1), ("epoch", 2), ("epoch", 3)]
    assert told == [*expected, ("computed", None), ("state", "succeeded")]


def test_a_result_that_is_no_model_is_the_jobs_result(jobs, start_worker, ended):
    start_worker()
    record = ended(jobs.submit(EvaluateRequest(model=json.dumps({"steps": 2}), dataset="d")).id)
    assert (record.state, record.result) == ("succeeded", {"counted": 2})


def test_many_rings_do_a_job_once(jobs, counting, start_worker, ended, folder):
    job_id = jobs.submit(counting()).id
    for _ in range(5):
        jobs.ring(job_id)
    start_worker()
    start_worker()
    ended(job_id)
    last = ended(jobs.submit(counting(steps=1, name="other")).id)
    assert last.state == "succeeded"
    assert [attempt[0] for attempt in attempts(folder)] == [job_id, last.id]


def test_a_job_waits_for_a_worker_and_says_so(jobs, counting, start_worker, ended, until):
    job_id = jobs.submit(counting()).id
    assert jobs.get(job_id).waiting == "no worker is connected"
    worker = start_worker()
    assert ended(job_id).state == "succeeded"
    assert len(jobs.workers()) == 1
    worker.terminate()
    assert worker.wait(10) == 0
    assert list(jobs.workers()) == []


def test_a_running_job_is_cancelled_between_two_steps(jobs, counting, start_worker, ended, until, folder):
    start_worker()
    job_id = jobs.submit(counting(steps=1000, pause_s=0.02)).id
    until(lambda: jobs.get(job_id).progress)
    assert jobs.cancel(job_id).cancel_requested
    record = ended(job_id)
    assert (record.state, record.result) == ("cancelled", None)
    assert versions(folder) == []


def test_a_failure_is_the_jobs_error_and_the_worker_goes_on(jobs, counting, start_worker, ended):
    start_worker()
    failed = ended(jobs.submit(counting(fail_at=1)).id)
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert failed.error == "the loss is not finite in epoch 3; lower the learning rate"
    assert ended(jobs.submit(counting(break_at=1)).id).error == "ZeroDivisionError: counting by zero"
    assert ended(jobs.submit(counting()).id).state == "succeeded"


def test_a_killed_workers_job_goes_on_from_its_checkpoint_and_ends_once(
    jobs, counting, start_worker, ended, until, folder
):
    first = start_worker()
    job_id = jobs.submit(counting(steps=40, pause_s=0.05)).id
    until(lambda: (jobs.get(job_id).progress or {}).get("epoch", 0) >= 5)
    first.kill()
    first.wait()
    until(lambda: jobs.get(job_id).waiting == "its worker is gone; no worker is connected")
    assert jobs.get(job_id).state == "running"
    start_worker()
    start_worker()
    record = ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 2, 1)
    assert record.result["from"] >= 5
    assert [(job, token) for job, token, _ in attempts(folder)] == [(job_id, "1"), (job_id, "2")]
    assert versions(folder) == ["count-000001"]


def test_a_job_that_kills_its_workers_fails_after_three(jobs, counting, start_worker, ended, until, folder):
    job_id = jobs.submit(counting(die_at=1, deaths=9)).id
    for _ in range(3):
        assert start_worker().wait(20) == -signal.SIGKILL
    start_worker()
    record = ended(job_id)
    assert (record.state, record.lost_leases, record.attempts) == ("failed", 3, 3)
    assert record.error.startswith("its worker vanished 3 times")
    assert len(attempts(folder)) == 3


def test_a_worker_that_is_told_to_end_hands_its_job_back(jobs, counting, start_worker, ended, until, folder):
    first = start_worker()
    job_id = jobs.submit(counting(steps=60, pause_s=0.05)).id
    until(lambda: (jobs.get(job_id).progress or {}).get("epoch", 0) >= 3)
    first.terminate()
    assert first.wait(10) == 0
    record = jobs.get(job_id)
    assert (record.state, record.waiting) == ("queued", "no worker is connected")
    start_worker()
    record = ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 2, 0)
    assert record.result["from"] >= 3


def test_what_an_earlier_attempt_published_is_adopted(jobs, counting, start_worker, ended, folder):
    job_id = jobs.submit(counting()).id
    (folder / f"publication-{job_id}").write_text(json.dumps(["earlier"]))
    start_worker()
    record = ended(job_id)
    assert (record.state, record.result) == ("succeeded", {"models": ["count@1"], "digests": ["earlier"]})
    assert attempts(folder) == []


def test_a_running_job_outlives_redis(redis, jobs, counting, start_worker, ended, until, folder):
    start_worker()
    job_id = jobs.submit(counting(steps=60, pause_s=0.05)).id
    until(lambda: (jobs.get(job_id).progress or {}).get("epoch", 0) >= 3)
    os.kill(redis.pid, signal.SIGKILL)
    until(lambda: redis.exited() is not None)
    redis.start()
    record = ended(job_id)
    assert (record.state, record.attempts, record.lost_leases) == ("succeeded", 1, 0)
    assert versions(folder) == ["count-000001"]
    assert ended(jobs.submit(counting()).id).state == "succeeded", "the worker does not hear the doorbell any more"


def test_a_job_that_ends_while_redis_is_gone_succeeds_when_it_is_back(
    redis, jobs, counting, start_worker, ended, until, folder
):
    start_worker()
    request = counting(steps=20, pause_s=0.05)
    job_id = jobs.submit(request).id
    until(lambda: jobs.get(job_id).progress)
    step = folder / f"step-{jobs.get(job_id).digest}"
    redis.stop()
    until(lambda: step.read_text() == "20")
    redis.start()
    assert ended(job_id).state == "succeeded"
    assert len(attempts(folder)) == 1


def test_a_worker_can_start_and_end_without_redis(redis, jobs, counting, start_worker, ended, until):
    redis.stop()
    worker, ending = start_worker(), start_worker()
    try:
        ending.terminate()
        ending.wait(15)
    finally:
        redis.start()
    assert ended(jobs.submit(counting()).id).state == "succeeded"
    assert worker.poll() is None
