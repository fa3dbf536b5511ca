"""The Celery application: a doorbell on Redis, with every setting that matters said aloud.

Its messages carry a job's id and nothing else, are acknowledged before the work begins, and may be
lost or doubled: the record decides. So no result backend, no redelivery, no remote control.
"""

from __future__ import annotations

from typing import Final

from celery import Celery

from worker.connection import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S
from worker.contract import Keys

__all__ = ["TASK", "celery_app", "ring"]

TASK: Final = "moda.work"
_A_YEAR_S: Final = 365 * 24 * 3600


def celery_app(redis_url: str) -> Celery:
    """An application on the Redis at `redis_url`, for a worker as for those who only ring."""
    app = Celery("moda", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=Keys.DOORBELL,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_pool_limit=4,
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
        broker_transport_options={
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # A message that was never acknowledged is of no use: the reaper rings again long before.
            "visibility_timeout": _A_YEAR_S,
        },
    )
    return app


def ring(app: Celery, job_id: str) -> None:
    """Tell whichever worker hears it that a job waits.

    Raises:
        Exception: whatever kombu or redis raise when the broker is gone; the reaper will ring again.
    """
    app.send_task(TASK, args=[job_id])
