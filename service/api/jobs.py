"""Jobs: their records, their events as they happen, and their end when somebody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from moda_core.errors import NotFound, Unavailable
from moda_core.storage.registry import Registry
from service.api.dependencies import Parts
from service.schemas import Job, JobList
from worker.contract import JobEvent, JobRecord, JobRequest

__all__ = ["accepted", "router"]

router = APIRouter(tags=["jobs"])

_POLL_S = 0.3


def accepted(parts: Parts, response: Response, request: JobRequest) -> Job:
    """Submit a request: 202, and where to look for the job."""
    record = parts.jobs.submit(request, result_exists=lambda done: _still_there(parts.registry, done))
    response.headers["Location"] = f"/jobs/{record.id}"
    return _job(record)


@router.get("/jobs")
def jobs(
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> JobList:
    """Jobs, newest first."""
    return JobList(jobs=[_job(record) for record in parts.jobs.list(limit=limit, offset=offset)])


@router.get("/jobs/{job_id}")
def job(job_id: str, parts: Parts) -> Job:
    """One job's record."""
    return _job(parts.jobs.get(job_id))


@router.delete("/jobs/{job_id}")
def cancel(job_id: str, parts: Parts) -> Job:
    """Ask a job to stop: at once while it is queued, between two steps while it runs."""
    return _job(parts.jobs.cancel(job_id))


_LastEventId = Annotated[str | None, Header(description="Only events after this one.")]


def _first_events(job_id: str, parts: Parts, last_event_id: _LastEventId = None) -> list[JobEvent]:
    """Read before the answer begins, so that an unknown job is still a 404."""
    return list(parts.jobs.events(job_id, last_event_id or "0"))


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Server-sent events: `state`, `epoch`, `stage`, `computed`, `progress`; data is a JSON object."
        }
    },
)
async def events(
    job_id: str,
    parts: Parts,
    first: Annotated[list[JobEvent], Depends(_first_events)],
    last_event_id: _LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """A job's events from its first, as server-sent events, until it ends.

    A client that comes back with `Last-Event-ID` misses none. The stream also ends when events
    cannot be had for now; the client then comes back by itself.
    """
    new, last = first, last_event_id or "0"
    try:
        while True:
            for event in new:
                last = event.id
                yield ServerSentEvent(id=event.id, event=event.event, data=event.data)
            ended = (await run_in_threadpool(parts.jobs.get, job_id)).done
            new = list(await run_in_threadpool(parts.jobs.events, job_id, last))
            if ended and not new:
                return
            if not new:
                await asyncio.sleep(_POLL_S)
    except (Unavailable, NotFound):
        return


def _still_there(registry: Registry, done: JobRecord) -> bool:
    """Whether what a job has published can still be used, and its data set's name still means that data set.

    Raises:
        StorageFailure: when that cannot be told now.
    """
    result = done.result or {}
    try:
        for reference in result.get("models", []):
            registry.resolve(reference)
        if "dataset" in result:
            return registry.resolve_dataset(result["dataset"]).digest == str(result["digest"])
    except NotFound:
        return False
    return True


def _job(record: JobRecord) -> Job:
    links = {"self": f"/jobs/{record.id}", "events": f"/jobs/{record.id}/events"}
    for reference in (record.result or {}).get("models", []):
        links[reference] = f"/models/{reference}"
    members = record.to_json()
    return Job(**{name: members[name] for name in Job.model_fields if name in members}, links=links)
