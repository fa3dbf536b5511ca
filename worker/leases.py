"""A worker's hold on one job: taken, renewed and ended by scripts that check its fencing token."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal, cast

from moda_core.specs import canonical_json
from worker.connection import answering
from worker.contract import JobRecord, JobState
from worker.jobs import Jobs
from worker.settings import Timing

__all__ = ["Holding", "Lease", "storable", "take"]

Holding = Literal["held", "cancel", "lost"]


class Lease:
    """One attempt at one job. Every write is refused once another worker has taken the job.

    All methods raise `Unavailable` while Redis does not answer.

    Attributes:
        record: the job as it was when taken.
        token: the fencing token: the number of this attempt.
    """

    def __init__(self, jobs: Jobs, record: JobRecord, token: int, timing: Timing) -> None:
        self.record, self.token = record, token
        self._jobs, self._lease_ms = jobs, int(timing.lease_s * 1000)

    def renew(self) -> Holding:
        """Hold the job for another lease, also after the last one ran out and nobody took it."""
        return cast("Holding", self._call(self._jobs.scripts.renew, self._lease_ms))

    def look(self) -> Holding:
        """Whether the job is still held, and whether it was asked to stop."""
        return cast("Holding", self._call(self._jobs.scripts.look))

    def report(self, event: str, data: Mapping[str, Any]) -> bool:
        """Append an event, which is also the job's progress from now; False when refused."""
        progress = storable({"event": event, **data})
        return bool(self._call(self._jobs.scripts.event, event, storable(data), progress))

    def succeed(self, result: Mapping[str, Any]) -> bool:
        """End the job with its result; False when refused. Doing it twice is doing it once.

        Raises:
            ValueError: for a result that is no JSON: a NaN, or text that is no Unicode.
        """
        return self._finish("succeeded", result=storable(result))

    def fail(self, reason: str, problem: Mapping[str, Any]) -> bool:
        """End the job with the reason why, as `worker.failures` words it; False when refused."""
        return self._finish("failed", error=reason, problem=storable(problem))

    def cancel(self) -> bool:
        """End the job as cancelled; False when refused."""
        return self._finish("cancelled")

    def release(self) -> bool:
        """Give the job back to the queue and ring for another worker; False when refused."""
        released = bool(self._call(self._jobs.scripts.release))
        if released:
            self._jobs.ring(self.record.id)
        return released

    def _finish(self, state: JobState, *, result: str = "", error: str = "", problem: str = "") -> bool:
        return bool(self._call(self._jobs.scripts.finish, state, result, error, problem))

    def _call(self, script: Any, *arguments: str | int) -> object:
        with answering(self._jobs.address):
            return script(args=[self.record.id, self.token, *arguments])


def storable(data: Mapping[str, Any]) -> str:
    """The JSON that Redis keeps.

    Raises:
        ValueError: for data that is no JSON: a NaN, or text that is no Unicode.
    """
    text = canonical_json(dict(data))
    text.encode()
    return text


def take(jobs: Jobs, job_id: str, worker: str, timing: Timing) -> Lease | None:
    """Take a job that is queued, or whose lease has run out; None when it is not to be had."""
    arguments = [job_id, worker, secrets.token_hex(8), int(timing.lease_s * 1000), timing.max_lost_leases]
    with answering(jobs.address):
        state, token = cast("tuple[str, int]", jobs.scripts.take(args=arguments))
    return Lease(jobs, jobs.get(job_id), token, timing) if state == "taken" else None
