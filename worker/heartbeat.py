"""The thread that keeps a worker present and its job held while the work keeps the main thread busy."""

from __future__ import annotations

import logging
import threading
import time

from moda_core.errors import Unavailable
from worker.connection import answering
from worker.jobs import Jobs
from worker.leases import Holding, Lease
from worker.settings import Timing

__all__ = ["Heartbeat"]

_log = logging.getLogger(__name__)


class Heartbeat:
    """Renews presence and lease every `heartbeat_s`, and looks for a cancellation every `flag_s`.

    While Redis is gone it tries on every `flag_s`. A lease that ran out meanwhile is held again if nobody took the
    job; otherwise `holding` becomes ``lost``, and the work must stop.
    """

    def __init__(self, jobs: Jobs, worker: str, timing: Timing) -> None:
        self._jobs, self._worker, self._timing = jobs, worker, timing
        self._lease: Lease | None = None
        self._holding: Holding = "held"
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and take the worker's name off the list of those present."""
        self._stopping.set()
        self._thread.join(timeout=10)
        try:
            self._present(0)
        except Unavailable:
            _log.info("Redis is gone; the worker's presence ends by itself")

    def watch(self, lease: Lease | None) -> None:
        """Renew this lease from now on; None: none."""
        with self._guard:
            self._lease, self._holding = lease, "held"

    @property
    def holding(self) -> Holding:
        """What the newest look at the watched lease said."""
        return self._holding

    def _run(self) -> None:
        renewed = -self._timing.heartbeat_s
        while not self._stopping.is_set():
            due = time.monotonic() - renewed >= self._timing.heartbeat_s
            began = time.monotonic()
            try:
                if due:
                    self._present(int(self._timing.lease_s * 1000))
                self._look(renew=due)
            except Unavailable as error:
                _log.warning("no heartbeat: %s", error)
            else:
                # Only now: a renewal that failed is due again at once, not a period later.
                renewed = began if due else renewed
            self._stopping.wait(self._timing.flag_s)

    def _present(self, lasting_ms: int) -> None:
        with answering(self._jobs.address):
            self._jobs.scripts.present(args=[self._worker, lasting_ms])

    def _look(self, *, renew: bool) -> None:
        lease = self._lease
        if lease is None or self._holding == "lost":
            return
        holding = lease.renew() if renew else lease.look()
        with self._guard:
            if self._lease is lease:
                self._holding = holding
