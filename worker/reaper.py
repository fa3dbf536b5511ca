"""The thread that rings again for jobs that nobody heard of, and ends those that lost too many workers.

Each worker and each service has one; a key in Redis lets one at a time sweep.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import cast

from moda_core.errors import Unavailable
from worker.connection import answering
from worker.contract import Keys
from worker.jobs import Jobs
from worker.settings import Timing

__all__ = ["Reaper"]

_log = logging.getLogger(__name__)


class Reaper:
    """Sweeps every `reap_s`, unless another reaper has just done so. Survives Redis being gone."""

    def __init__(self, jobs: Jobs, timing: Timing | None = None) -> None:
        self._jobs, self._timing = jobs, timing or Timing()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sweeping."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def sweep(self) -> Sequence[str]:
        """Settle what is lost and ring for what waits: the ids rung for, none when it is not our turn.

        Raises:
            Unavailable: Redis does not answer.
        """
        timing = self._timing
        with answering(self._jobs.address):
            if not self._jobs.redis.set(Keys.REAPER, "sweeping", nx=True, px=int(timing.reap_s * 900)):
                return []
            arguments = [int(timing.ring_s * 1000), timing.max_lost_leases, int(timing.lease_s * 1000)]
            ids = cast("list[str]", self._jobs.scripts.reap(args=arguments))
        for job_id in ids:
            self._jobs.ring(job_id)
        return ids

    def _run(self) -> None:
        while not self._stopping.wait(self._timing.reap_s):
            try:
                rung = self.sweep()
            except Unavailable as error:
                _log.warning("no sweep: %s", error)
            else:
                if rung:
                    _log.info("rang again for %s", ", ".join(rung))
