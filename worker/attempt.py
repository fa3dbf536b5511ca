"""One attempt at a job: take it, do the work, publish once, end it.

Redis cannot fence the store, so a job publishes through one put-if-absent under its id. Whoever finds
a publication adopts it: two attempts that overlap still give one set of versions and one result. From
the claim on a store that fails is waited for, because half of what the job made may be out already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from moda_core.errors import Cancelled, Corrupt, ModaError, StorageFailure, Unavailable
from worker.contract import JobRecord, TrainRequest, parse_request
from worker.failures import told
from worker.heartbeat import Heartbeat
from worker.jobs import Jobs
from worker.leases import Lease, storable, take
from worker.settings import Timing

__all__ = ["Control", "Executor", "Outcome", "Publications", "Work"]

_log = logging.getLogger(__name__)
_COMPUTED: Final = "computed"
_Answer = TypeVar("_Answer")
_SHORTEST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the work gave.

    Attributes:
        digests: of the manifests to publish, in order; for an import, that of the data set.
        result: what else belongs into the job's result.
    """

    digests: Sequence[str] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


class Publications(Protocol):
    """What an attempt needs of the registry."""

    def publication(self, job_id: str) -> list[str] | None:
        """The digests that this job has published, None when it has not."""

    def claim_publication(self, job_id: str, digests: list[str]) -> list[str]:
        """Publish these digests for a job, unless another attempt already has: those that count."""

    def publish_version(self, name: str, digest: str, job_id: str | None = None) -> int:
        """The number of the model's version that this job gave `digest`, made when there is none."""

    def publish_dataset(self, name: str, digest: str, job_id: str | None = None) -> int:
        """The same for a data set."""

    def clear_checkpoints(self, spec_digest: str) -> None:
        """Drop the checkpoints of a run whose result is published."""


class Control:
    """How the work reports, and learns that it must stop."""

    def __init__(self, lease: Lease, heartbeat: Heartbeat, stopping: threading.Event) -> None:
        self._lease, self._heartbeat, self._stopping = lease, heartbeat, stopping

    def progress(self, event: Mapping[str, Any]) -> None:
        """Report an event, named by its ``event``; it is dropped when Redis is gone or the job is lost."""
        data = dict(event)
        try:
            self._lease.report(str(data.pop("event", "progress")), data)
        except Unavailable as error:
            _log.warning("an event of job %s is lost: %s", self._lease.record.id, error)

    def cancelled(self) -> bool:
        """Whether to stop: the job was cancelled or lost to another worker, or this worker is ending."""
        return self._stopping.is_set() or self._heartbeat.holding != "held"


Executor = Callable[[JobRecord, Control], Outcome]


class Work:
    """Does jobs, one at a time, on behalf of one worker."""

    def __init__(
        self,
        jobs: Jobs,
        heartbeat: Heartbeat,
        execute: Executor,
        registry: Publications,
        *,
        worker: str,
        timing: Timing,
    ) -> None:
        self._jobs, self._heartbeat, self._execute, self._registry = jobs, heartbeat, execute, registry
        self._worker, self._timing = worker, timing
        self.stopping = threading.Event()

    def attempt(self, job_id: str) -> None:
        """Do a job if it is to be had, to its end or until it is lost, cancelled or handed back."""
        try:
            lease = None if self.stopping.is_set() else take(self._jobs, job_id, self._worker, self._timing)
        except Unavailable as error:
            _log.warning("job %s was not taken: %s", job_id, error)
            return
        if lease is None:
            return
        _log.info("job %s (%s): attempt %d", job_id, lease.record.kind, lease.token)
        self._heartbeat.watch(lease)
        try:
            ended = self._insist(self._work(lease))
        finally:
            self._heartbeat.watch(None)
        _log.info("job %s: %s", job_id, self._jobs_state(job_id) if ended else "no longer ours")

    def _work(self, lease: Lease) -> Callable[[], bool]:
        """Do the work: how to end the job."""
        try:
            result = self._result(lease)
            storable(result)
        except Cancelled:
            return lease.release if self.stopping.is_set() else lease.cancel
        except Exception as error:  # noqa: BLE001  # whatever broke, the job must end and say so
            if not isinstance(error, ModaError):
                _log.exception("job %s failed", lease.record.id)
            # Words only: an error that outlived this frame would keep the work's tensors, on the device too.
            return partial(lease.fail, *told(error))
        return lambda: lease.succeed(result)

    def _result(self, lease: Lease) -> dict[str, Any]:
        """The job's result, computed and published, or adopted from an earlier attempt."""
        record = lease.record
        published = self._published(lease)
        if published is not None:
            return self._versions(record, published, _computed(record, published))
        outcome = self._execute(record, Control(lease, self._heartbeat, self.stopping))
        digests = list(outcome.digests)
        if not digests:
            return dict(outcome.result)
        computed = {"digests": digests, "result": dict(outcome.result)}
        if not self._insist(lambda: lease.report(_COMPUTED, computed)):
            raise Cancelled(f"job {record.id}")
        # A claim that seems to fail may have been made, so it is waited for like what follows it.
        published = self._patiently(record, lambda: self._registry.claim_publication(record.id, digests))
        return self._versions(record, published, dict(outcome.result) if published == digests else {})

    def _published(self, lease: Lease) -> list[str] | None:
        """What earlier attempts have published; the first has none before it, and a store that fails ends it."""
        job_id = lease.record.id
        if lease.token == 1:
            return self._registry.publication(job_id)
        return self._patiently(lease.record, lambda: self._registry.publication(job_id))

    def _versions(self, record: JobRecord, published: Sequence[str], result: Mapping[str, Any]) -> dict[str, Any]:
        """Make what was published versions of the name that was asked for, if any."""
        name, registry = record.request.get("name"), self._registry
        if record.kind == "import":
            (digest,) = published
            number = self._patiently(record, lambda: registry.publish_dataset(str(name), digest, job_id=record.id))
            return {**result, "dataset": name, "version": number, "digest": digest}
        models = list(published)
        if name:
            numbers = [
                self._patiently(record, partial(registry.publish_version, name, digest, job_id=record.id))
                for digest in published
            ]
            models = [f"{name}@{number}" for number in numbers]
        self._clear_checkpoints(record)
        return {**result, "models": models, "digests": list(published)}

    def _clear_checkpoints(self, record: JobRecord) -> None:
        """Give their space back; whoever asks for the same run again gets what was published."""
        request = parse_request(record.kind, record.request)
        if not isinstance(request, TrainRequest):
            return
        try:
            self._registry.clear_checkpoints(request.spec.digest())
        except StorageFailure as error:
            _log.warning("checkpoints of job %s stay: %s", record.id, error)

    def _patiently(self, record: JobRecord, use_store: Callable[[], _Answer]) -> _Answer:
        """Use the store, again and again while it fails.

        Raises:
            Cancelled: the job was cancelled or lost, or this worker ends; another then adopts what is claimed.
            Corrupt: no waiting mends what is stored.
        """
        pause_s = _SHORTEST_PAUSE_S
        while True:
            try:
                return use_store()
            except Corrupt:
                raise
            except StorageFailure as error:
                _log.warning("job %s waits for the store: %s", record.id, error)
            if self.stopping.wait(pause_s) or self._heartbeat.holding != "held":
                raise Cancelled(f"job {record.id}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _insist(self, write: Callable[[], bool]) -> bool:
        """Write to Redis, again and again while it is gone; False when refused, or when the worker ends first."""
        pause_s = _SHORTEST_PAUSE_S
        while True:
            try:
                return write()
            except Unavailable as error:
                _log.warning("waiting for Redis: %s", error)
            if self.stopping.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _jobs_state(self, job_id: str) -> str:
        try:
            return self._jobs.get(job_id).state
        except ModaError:
            return "ended"


def _computed(record: JobRecord, published: Sequence[str]) -> dict[str, Any]:
    """What an earlier attempt computed beside the digests that it published, as far as it is known."""
    progress = record.progress or {}
    known = progress.get("event") == _COMPUTED and progress.get("digests") == list(published)
    return dict(progress["result"]) if known else {}
