"""One attempt at a job, on a real Redis: what it publishes, and how it ends, when things go wrong."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import contextmanager

import pytest
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import Corrupt, InvalidInput, StorageFailure, TrainingFailure
from moda_core.specs import TrainingSpec
from moda_core.storage.registry import Registry
from moda_core.training.checkpoints import Checkpoint
from worker.attempt import Outcome, Work
from worker.contract import ImportRequest, Keys, TrainRequest
from worker.heartbeat import Heartbeat


class Store:
    """A registry in memory that can fail."""

    def __init__(self):
        self.claims, self.versions, self.failures, self.calls, self.cleared = {}, [], {}, 0, []

    def failing(self):
        """The next call's failure, if one is due."""
        self.calls += 1
        if self.calls in self.failures:
            raise self.failures[self.calls]

    def publication(self, job_id):
        return self.claims.get(job_id)

    def claim_publication(self, job_id, digests):
        self.failing()
        return self.claims.setdefault(job_id, digests)

    def publish_version(self, name, digest, job_id=None):
        self.failing()
        if (digest, job_id) not in self.versions:
            self.versions.append((digest, job_id))
        return self.versions.index((digest, job_id)) + 1

    def clear_checkpoints(self, spec_digest):
        self.cleared.append(spec_digest)


@contextmanager
def working(bench, execute, store):
    heartbeat = Heartbeat(bench.jobs, "w", bench.timing)
    heartbeat.start()
    try:
        yield Work(bench.jobs, heartbeat, execute, store, worker="w", timing=bench.timing)
    finally:
        heartbeat.stop()


def two_models(record, control):
    return Outcome(digests=["trained", "modular"], result={"n": 2})


FULL = StorageFailure("the disk is full", "make space")


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_store_that_fails_from_the_claim_on_is_waited_for(bench, failing):
    store, job_id = Store(), bench.submit()
    store.failures = {failing: FULL, failing + 1: FULL}
    with working(bench, two_models, store) as work:
        work.attempt(job_id)
    record = bench.jobs.get(job_id)
    assert (record.state, record.error) == ("succeeded", None)
    assert record.result == {"n": 2, "models": ["count@1", "count@2"], "digests": ["trained", "modular"]}
    assert store.versions == [("trained", job_id), ("modular", job_id)]


def test_a_worker_that_ends_while_the_store_fails_leaves_the_rest_to_another(bench):
    store, job_id = Store(), bench.submit()
    store.failures = dict.fromkeys(range(3, 1000), FULL)
    with working(bench, two_models, store) as work:
        ending = threading.Timer(0.5, work.stopping.set)
        ending.start()
        work.attempt(job_id)
    assert (bench.jobs.get(job_id).state, store.versions) == ("queued", [("trained", job_id)])
    store.failures = {}
    with working(bench, two_models, store) as work:
        work.attempt(job_id)
    assert bench.jobs.get(job_id).result["models"] == ["count@1", "count@2"]
    assert len(store.versions) == 2


def test_a_job_that_waits_for_the_store_can_be_cancelled(bench):
    store, job_id = Store(), bench.submit()
    store.failures = dict.fromkeys(range(1, 1000), FULL)
    with working(bench, two_models, store) as work:
        threading.Timer(0.5, bench.jobs.cancel, [job_id]).start()
        work.attempt(job_id)
    assert bench.jobs.get(job_id).state == "cancelled"


def test_what_no_waiting_mends_is_a_failure(bench):
    store, job_id = Store(), bench.submit()
    store.failures = {2: Corrupt("the manifest differs from its digest", "restore it")}
    with working(bench, two_models, store) as work:
        work.attempt(job_id)
    assert (bench.jobs.get(job_id).state, bench.jobs.get(job_id).problem["code"]) == ("failed", "corrupt")


def test_a_failed_attempt_lets_go_of_what_it_worked_with(bench):
    class Weights:
        pass

    held = []

    def failing(record, control):
        weights = Weights()
        held.append(weakref.ref(weights))
        raise TrainingFailure("the loss is nan", "lower the learning rate")

    gc.disable()
    try:
        with working(bench, failing, Store()) as work:
            work.attempt(bench.submit())
        assert held[0]() is None
    finally:
        gc.enable()


def broken(record, control):
    raise InvalidInput("source", "a\udc80", "no set \udc80", "give another")


@pytest.mark.parametrize(
    ("execute", "error", "problem"),
    [
        (lambda *_: Outcome(result={"loss": float("nan")}), "ValueError: Out of range", {"code": "internal"}),
        (lambda *_: Outcome(digests=["d"], result={"a": float("inf")}), "ValueError: Out", {"code": "internal"}),
        (lambda *_: Outcome(result={"a": object()}), "TypeError: Object of type", {"code": "internal"}),
        (lambda *_: Outcome(result={"a": "\udc80"}), "UnicodeEncodeError", {"code": "internal"}),
        (
            broken,
            "source: no set \\udc80",
            {"code": "invalid-input", "field": "source", "value": "a\\udc80", "remedy": "give another"},
        ),
    ],
)
def test_whatever_cannot_be_stored_or_said_ends_the_job(bench, execute, error, problem):
    job_id = bench.submit()
    with working(bench, execute, Store()) as work:
        work.attempt(job_id)
    record = bench.jobs.get(job_id)
    assert (record.state, record.problem) == ("failed", problem)
    assert record.error.startswith(error)


def published(registry):
    """The digest of every version of the data set."""
    latest = registry.resolve_dataset("set").version
    return [registry.resolve_dataset(f"set@{number}").digest for number in range(1, latest + 1)]


def dataset(shade):
    images = Images(torch.full((4, 1, 8, 8), shade, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    return Dataset(("a", "b"), images, images, mirror=False)


def test_an_attempt_that_stalled_puts_no_old_data_set_over_a_newer_one(bench, tmp_path):
    registry = Registry(tmp_path / "registry")
    old, new = registry.store_dataset(dataset(1)), registry.store_dataset(dataset(2))
    job_id = bench.jobs.submit(ImportRequest(name="set", source="old.npz")).id
    imports = lambda *_: Outcome(digests=[old], result={"classes": ["a", "b"]})  # noqa: E731

    def stalling(record, control):
        bench.jobs.redis.zadd(Keys.RUNNING, {job_id: 1})
        with working(bench, imports, registry) as other:
            other.attempt(job_id)
        registry.publish_dataset("set", new)
        return imports()

    silent = Heartbeat(bench.jobs, "w", bench.timing)  # never started: one beat would hold the lease again
    Work(bench.jobs, silent, stalling, registry, worker="w", timing=bench.timing).attempt(job_id)
    record = bench.jobs.get(job_id)
    assert (record.state, record.attempts) == ("succeeded", 2)
    assert record.result == {"dataset": "set", "version": 1, "digest": old, "classes": ["a", "b"]}
    assert published(registry) == [old, new]


def test_a_claim_of_an_attempt_that_was_not_heard_of_again_is_what_counts(bench, tmp_path):
    registry = Registry(tmp_path / "registry")
    first, second = registry.store_dataset(dataset(1)), registry.store_dataset(dataset(2))
    job_id = bench.jobs.submit(ImportRequest(name="set", source="set.npz")).id

    def overtaken(record, control):
        registry.claim_publication(job_id, [first])
        return Outcome(digests=[second])

    with working(bench, overtaken, registry) as work:
        work.attempt(job_id)
    assert bench.jobs.get(job_id).result["digest"] == first
    assert published(registry) == [first]


@pytest.mark.parametrize("fails", [False, True])
def test_checkpoints_go_when_the_training_is_published_and_stay_when_it_fails(bench, tmp_path, fails):
    registry = Registry(tmp_path / "registry")
    spec = TrainingSpec(dataset="d" * 64, architecture="cnn")

    def training(record, control):
        registry.checkpoints(spec.digest()).save(Checkpoint(epoch=1, tensors={"w": torch.ones(1)}, state={}))
        if fails:
            raise StorageFailure("the disk is full", "make space")
        return Outcome(digests=["d" * 64])

    job_id = bench.jobs.submit(TrainRequest(name=None, spec=spec)).id
    with working(bench, training, registry) as work:
        work.attempt(job_id)
    assert bench.jobs.get(job_id).state == ("failed" if fails else "succeeded")
    assert (registry.checkpoints(spec.digest()).load() is not None) == fails
