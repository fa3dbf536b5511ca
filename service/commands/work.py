"""`moda jobs` and `moda cancel`, and how a job is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.following import describe, follow
from service.commands.options import DEFAULT_URL, AsJson, Url
from service.commands.terminal import shares, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from service import schemas

__all__ = ["cancel", "jobs", "show_job"]

JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]


def jobs(
    *,
    job: Annotated[str | None, typer.Argument(help="One job's id; all jobs when left out.", metavar="JOB")] = None,
    watch: Annotated[bool, typer.Option("--follow", "-f", help="Watch JOB until it ends.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the jobs, newest first, or show one."""
    from service.client import FINAL_STATES, Client, as_plain

    with Client(url) as client:
        if job is None:
            listed = client.jobs()
            show([as_plain(one) for one in listed], as_json=as_json, people=lambda: _table(listed))
            return
        found = client.job(job)
        running = watch and found.state not in FINAL_STATES
        show_job(follow(client, found, quiet=as_json) if running else found, as_json=as_json)


def cancel(*, job: JobId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Ask a job to stop; it does so between two steps."""
    from service.client import Client

    with Client(url) as client:
        show_job(client.cancel(job), as_json=as_json)


def show_job(job: schemas.Job, *, as_json: bool) -> None:
    """One job: what it came to, or how far it is."""
    from service.client import as_plain

    show(as_plain(job), as_json=as_json, people=lambda: _facts(job))


def _facts(job: schemas.Job) -> Table:
    facts: list[tuple[str, object]] = [("Job", job.id), ("Kind", job.kind), ("State", job.state)]
    if job.waiting:
        facts.append(("Waiting", job.waiting))
    if job.error:
        facts.append(("Error", job.error))
    if job.state == "running" and job.progress:
        facts.append(("Progress", describe(job.progress)))
    facts += [(key.replace("_", " ").capitalize(), _words(value)) for key, value in (job.result or {}).items()]
    return table("", "", rows=facts)


def _words(value: object) -> object:
    """A part of a job's result for people: accuracies in percent with their n, before and after as a change."""
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return ", ".join(map(str, value))
    if not isinstance(value, dict):
        return shares(value) if isinstance(value, float) else value
    if value.keys() == {"accuracy", "n"}:
        return f"{shares(value['accuracy'])} (n = {value['n']:,})"
    if value.keys() == {"before", "after", "n"}:
        return f"{shares(value['before'])} before, {shares(value['after'])} after (n = {value['n']:,})"
    inner = [f"{key} {_words(item)}" for key, item in value.items()]
    return ("\n" if any(isinstance(item, dict) for item in value.values()) else ", ").join(inner)


def _table(jobs: list[schemas.Job]) -> Table:
    rows = [
        (one.id, one.kind, one.state, one.created_at[:19], one.waiting or one.error or describe(one.progress or {}))
        for one in jobs
    ]
    return table("Job", "Kind", "State", "Created (UTC)", "What", rows=rows, empty="No job yet.")
