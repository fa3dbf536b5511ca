"""A worker as a process: Celery in the main thread, heartbeat and reaper beside it, a clean end."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import warnings

from celery import signals
from celery.exceptions import CPendingDeprecationWarning

from worker.app import celery_app
from worker.attempt import Executor, Publications, Work
from worker.heartbeat import Heartbeat
from worker.jobs import Jobs
from worker.reaper import Reaper
from worker.settings import WorkerSettings
from worker.tasks import register

__all__ = ["serve"]

_log = logging.getLogger(__name__)


def serve(settings: WorkerSettings, execute: Executor, registry: Publications) -> int:
    """Do jobs until SIGTERM or SIGINT, whether Redis is there or not: the exit status.

    On either signal a running job stops between two steps and goes back to the queue, for another
    worker to go on from its checkpoint.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    jobs, app = Jobs(settings.redis_url), celery_app(settings.redis_url)
    heartbeat, reaper = Heartbeat(jobs, name, settings.timing), Reaper(jobs, settings.timing)
    work = Work(jobs, heartbeat, execute, registry, worker=name, timing=settings.timing)
    register(app, work)

    def stop(**_: object) -> None:
        work.stopping.set()

    def keep_logging(**_: object) -> None:
        """Celery leaves logging as it is when somebody answers this signal."""

    # Said whenever a connection is lost, although the setting that it asks for is made.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    signals.setup_logging.connect(keep_logging, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    heartbeat.start()
    reaper.start()
    _log.info("worker %s listens on %s", name, jobs.address)
    try:
        # Solo: the job runs in this process's main thread. A fork could not use CUDA, and there is one job per GPU.
        worker = app.Worker(
            pool="solo",
            concurrency=1,
            hostname=f"moda@{name}",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        signals.worker_shutting_down.disconnect(stop)
        reaper.stop()
        heartbeat.stop()
        _log.info("worker %s has ended", name)
