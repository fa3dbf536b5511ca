"""Real training by real workers, one of which is killed."""

from __future__ import annotations

from dataclasses import replace

from moda_core.data.digits import load_digits
from moda_core.specs import TrainingSpec
from moda_core.storage.registry import Registry
from worker.contract import TrainRequest


def test_training_whose_worker_is_killed_goes_on_elsewhere_and_is_published_once(bench):
    bench.timing = replace(bench.timing, lease_s=3.0)
    registry = Registry(bench.folder)
    dataset = registry.put_dataset("digits", load_digits(0))
    spec = TrainingSpec(dataset=dataset, architecture="cnn", width=0.25, epochs=8, crop_padding=0)
    first = bench.start_worker("real_worker.py")
    job_id = bench.jobs.submit(TrainRequest(name="digits-cnn", spec=spec, threshold="0.9")).id
    bench.until_step(job_id, 2)
    first.kill()
    first.wait()
    assert bench.jobs.get(job_id).state == "running"
    bench.start_worker("real_worker.py")
    record = bench.ended(job_id)
    assert (record.state, record.error, record.attempts, record.lost_leases) == ("succeeded", None, 2, 1)
    assert record.result["models"] == ["digits-cnn@1", "digits-cnn@2"]
    versions = registry.versions("digits-cnn")
    assert [(version.digest, version.job_id) for version in versions] == [
        (digest, job_id) for digest in record.result["digests"]
    ]
    assert [registry.manifest(version.digest).kind for version in versions] == ["trained", "modular"]
    assert [epoch["epoch"] for epoch in registry.manifest(versions[0].digest).metrics["history"]] == [*range(1, 9)]
    events = bench.jobs.events(job_id)
    states = [event.data["state"] for event in events if event.event == "state"]
    assert states == ["queued", "running", "running", "succeeded"]
    again = next(place for place, event in enumerate(events) if event.data == {"state": "running"} and place > 1)
    resumed = [event.data["epoch"] for event in events[again:] if event.event == "epoch"]
    assert resumed[0] > 1, "it began anew instead of going on from its checkpoint"
    assert registry.checkpoints(spec.digest()).load() is None
