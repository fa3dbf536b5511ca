"""What a worker does when the doorbell rings."""

from __future__ import annotations

from celery import Celery

from worker.app import TASK
from worker.attempt import Work

__all__ = ["register"]


def register(app: Celery, work: Work) -> None:
    """Make `app` answer the doorbell with `work`."""

    @app.task(name=TASK)  # type: ignore[untyped-decorator]  # celery has no types
    def attempt(job_id: str) -> None:
        work.attempt(job_id)
