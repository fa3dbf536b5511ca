"""Jobs as their users see them: submit, look, list, cancel, follow. Torch is not needed here."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from moda_core.errors import InvalidInput, NotFound
from moda_core.specs import canonical_json
from worker.app import celery_app, ring
from worker.connection import answering, connect, shown_address
from worker.contract import (
    JobEvent,
    JobKind,
    JobRecord,
    JobRequest,
    Keys,
    iso_utc,
    kind_of_request,
    request_digest,
)
from worker.scripts import Scripts

__all__ = ["Jobs"]

_log = logging.getLogger(__name__)
_EVENT_ID: Final = re.compile(r"\d{1,19}(-\d{1,19})?")
_JOB_ID: Final = re.compile(r"[0-9a-f]{16}")


class Jobs:
    """The jobs on one Redis. Safe to share between threads.

    Every method raises `Unavailable`, within seconds, while Redis does not answer.

    Args:
        redis_url: such as ``redis://127.0.0.1:6379/0``.
    """

    def __init__(self, redis_url: str) -> None:
        self.redis = connect(redis_url)
        self.scripts = Scripts(self.redis)
        self._app = celery_app(redis_url)
        self.address = shown_address(redis_url)

    def submit(
        self, request: JobRequest, *, result_exists: Callable[[JobRecord], bool] = lambda _record: True
    ) -> JobRecord:
        """The job that does this work: the one that is queued, running or has succeeded, else a new one.

        Args:
            request: what to do; its class says which kind of job.
            result_exists: asked about a job that has succeeded; False makes a new one.
        """
        kind = kind_of_request(request)
        record = self.get(self._submit(kind, request))
        if record.state == "succeeded" and not result_exists(record):
            record = self.get(self._submit(kind, request, replaced=record.id))
        return record

    def _submit(self, kind: JobKind, request: JobRequest, replaced: str = "") -> str:
        """The id of the job; rings when it is new."""
        fresh, digest = secrets.token_hex(8), request_digest(kind, request)
        arguments = [fresh, kind, digest, canonical_json(request.to_json()), replaced]
        with answering(self.address):
            job_id = cast("str", self.scripts.submit(args=arguments))
        if job_id == fresh:
            self.ring(job_id)
        return job_id

    def ring(self, job_id: str) -> bool:
        """Ring for a job; False when nobody could be told, and the reaper will ring again."""
        try:
            ring(self._app, job_id)
        except (OperationalError, RedisError, OSError) as error:
            _log.warning("could not ring for job %s: %s", job_id, error)
            return False
        return True

    def get(self, job_id: str) -> JobRecord:
        """The record of a job.

        Raises:
            NotFound: there is no such job.
        """
        records = self._read([job_id] if _JOB_ID.fullmatch(job_id) else [])
        if not records:
            raise NotFound("job", job_id, "see the list of jobs")
        return records[0]

    def list(self, *, limit: int = 100, offset: int = 0) -> Sequence[JobRecord]:
        """Records, newest first."""
        with answering(self.address):
            ids = cast("Sequence[str]", self.redis.zrevrange(Keys.ALL, offset, offset + limit - 1))
        return self._read(ids)

    def cancel(self, job_id: str) -> JobRecord:
        """Ask for a job to stop: a queued one is cancelled at once, a running one between two steps.

        A job that has ended stays as it is.

        Raises:
            NotFound: there is no such job.
        """
        with answering(self.address):
            self.scripts.cancel(args=[job_id])
        return self.get(job_id)

    def events(self, job_id: str, after: str = "0", *, limit: int = 500) -> Sequence[JobEvent]:
        """Up to `limit` events after the one with id `after`, oldest first.

        Raises:
            InvalidInput: `after` is no event's id.
            NotFound: there is no such job.
        """
        if not _EVENT_ID.fullmatch(after):
            raise InvalidInput("after", after, "not the id of an event", "give one such as 1763800000000-0, or 0")
        self.get(job_id)
        with answering(self.address):
            streams = cast("Any", self.redis.xread({Keys.EVENTS + job_id: after}, count=limit))
        entries = streams[0][1] if streams and isinstance(streams, list) else next(iter((streams or {}).values()), [])
        return [JobEvent(id=eid, event=entry["event"], data=json.loads(entry["data"])) for eid, entry in entries]

    def workers(self) -> Sequence[str]:
        """The names of the workers that have been heard of lately."""
        with answering(self.address):
            now_ms = self._now_ms(self.redis.time())
            return cast("Sequence[str]", self.redis.zrangebyscore(Keys.WORKERS, now_ms, "+inf"))

    def check(self) -> None:
        """Return when jobs can be submitted.

        Raises:
            Unavailable: they cannot.
        """
        with answering(self.address):
            self.redis.ping()

    def close(self) -> None:
        """Give the connections back; the next call opens new ones."""
        self.redis.close()
        self._app.close()

    @staticmethod
    def _now_ms(time: tuple[int, int]) -> int:
        return time[0] * 1000 + time[1] // 1000

    def _read(self, ids: Sequence[str]) -> Sequence[JobRecord]:
        """The records that exist among `ids`, in one round trip."""
        pipeline = self.redis.pipeline()
        pipeline.time()
        for name in (Keys.WORKERS, Keys.RUNNING):
            pipeline.zrange(name, 0, -1, withscores=True)
        for job_id in ids:
            pipeline.hgetall(Keys.JOB + job_id)
        with answering(self.address):
            time, workers, running, *hashes = pipeline.execute()
        now_ms = self._now_ms(time)
        present = sum(end > now_ms for _, end in workers)
        leases = {name: end > now_ms for name, end in running}
        return [_record(fields, present, leases) for fields in hashes if fields]


def _record(fields: dict[str, str], workers: int, leases: dict[str, bool]) -> JobRecord:
    """A record from its hash, with the reason for which it waits."""

    def moment(name: str) -> str | None:
        return iso_utc(int(fields[name])) if name in fields else None

    def parsed(name: str) -> Any:
        return json.loads(fields[name]) if name in fields else None

    return JobRecord(
        id=fields["id"],
        kind=cast("Any", fields["kind"]),
        request=parsed("request"),
        digest=fields["digest"],
        state=cast("Any", fields["state"]),
        created_at=moment("created_ms") or "",
        started_at=moment("started_ms"),
        finished_at=moment("finished_ms"),
        attempts=int(fields["token"]),
        lost_leases=int(fields["lost"]),
        worker=fields.get("worker"),
        cancel_requested="cancel" in fields,
        waiting=_waiting(fields, workers, leases),
        progress=parsed("progress"),
        result=parsed("result"),
        error=fields.get("error"),
        problem=parsed("problem"),
    )


def _waiting(fields: dict[str, str], workers: int, leases: dict[str, bool]) -> str | None:
    """Why an unfinished job makes no headway, None while it does.

    `workers` are present; `leases` says of every running job whether its lease still holds.
    """
    if fields["state"] == "running" and not leases.get(fields["id"]):
        return "its worker is gone; " + ("another will take it" if workers else "no worker is connected")
    if fields["state"] != "queued":
        return None
    if not workers:
        return "no worker is connected"
    return "every worker is busy" if sum(leases.values()) >= workers else None
