"""One attempt at a job: take it, do the work, publish once, end it.

Redis cannot fence the store, so a job publishes through one put-if-absent under its id. Whoever finds
a publication adopts it: two attempts that overlap still give one set of versions and one result.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from moda_core.errors import Cancelled, ModaError, Unavailable
from worker.contract import JobRecord
from worker.heartbeat import Heartbeat
from worker.jobs import Jobs
from worker.leases import Lease, take
from worker.settings import Timing

__all__ = ["Control", "Executor", "Outcome", "Publications", "Work"]

_log = logging.getLogger(__name__)
_COMPUTED: Final = "computed"
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the work gave.

    Attributes:
        digests: of the manifests to publish, in order.
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
        """The number of the version of `name` that this job gave `digest`, made when there is none."""


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
        except Cancelled:
            return lease.release if self.stopping.is_set() else lease.cancel
        except ModaError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001  # whatever broke, the job must end and say so
            _log.exception("job %s failed", lease.record.id)
            reason = f"{type(error).__name__}: {error}"
        else:
            return lambda: lease.succeed(result)
        return lambda: lease.fail(reason)

    def _result(self, lease: Lease) -> dict[str, Any]:
        """The job's result, computed and published, or adopted from an earlier attempt."""
        record = lease.record
        published = self._registry.publication(record.id)
        if published is not None:
            return self._versions(record, published, _computed(record, published))
        outcome = self._execute(record, Control(lease, self._heartbeat, self.stopping))
        digests = list(outcome.digests)
        if not digests:
            return dict(outcome.result)
        computed = {"digests": digests, "result": dict(outcome.result)}
        if not self._insist(lambda: lease.report(_COMPUTED, computed)):
            raise Cancelled(f"job {record.id}")
        published = self._registry.claim_publication(record.id, digests)
        return self._versions(record, published, dict(outcome.result) if published == digests else {})

    def _versions(self, record: JobRecord, published: Sequence[str], result: Mapping[str, Any]) -> dict[str, Any]:
        """Make what was published versions of the name that was asked for, if any."""
        name = record.request.get("name")
        models = [
            f"{name}@{self._registry.publish_version(name, digest, job_id=record.id)}" if name else digest
            for digest in published
        ]
        return {**result, "models": models, "digests": list(published)}

    def _insist(self, write: Callable[[], bool]) -> bool:
        """Write to Redis, again and again while it is gone; False when refused, or when the worker ends first."""
        pause_s = 0.1
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
