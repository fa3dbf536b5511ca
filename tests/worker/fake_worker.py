"""A real worker process whose work is counting: ``fake_worker.py REDIS_URL FOLDER TIMING``.

What to do is JSON in the request's `model`: steps, seconds a step, at which step of which attempts to
die or fail. The folder holds a step counter per job spec (the checkpoint), one line per attempt, and a
registry of files.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from moda_core.errors import Cancelled, TrainingFailure
from worker.attempt import Control, Outcome
from worker.contract import JobRecord
from worker.process import serve
from worker.settings import Timing, WorkerSettings


class FileRegistry:
    """Publications and versions as files that are made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _once(self, path: Path, value: object) -> object:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(value))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return json.loads(path.read_text())

    def publication(self, job_id: str) -> list[str] | None:
        path = self.folder / f"publication-{job_id}"
        return json.loads(path.read_text()) if path.exists() else None

    def claim_publication(self, job_id: str, digests: list[str]) -> list[str]:
        return self._once(self.folder / f"publication-{job_id}", digests)

    def publish_version(self, name: str, digest: str, job_id: str | None = None) -> int:
        number = 1
        while self._once(self.folder / f"{name}-{number:06}", [digest, job_id]) != [digest, job_id]:
            number += 1
        return number

    def publish_dataset(self, name: str, digest: str, job_id: str | None = None) -> int:
        return self.publish_version(f"dataset-{name}", digest, job_id)

    def clear_checkpoints(self, spec_digest: str) -> None:
        """Nothing of the kind is kept here."""


class Counting:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, record: JobRecord, control: Control) -> Outcome:
        plan = json.loads(record.request["model"])
        with (self.folder / "attempts").open("a") as attempts:
            attempts.write(f"{record.id} {record.attempts}\n")
        checkpoint = self.folder / f"step-{record.digest}"
        first = int(checkpoint.read_text()) if checkpoint.exists() else 0
        for step in range(first, plan["steps"]):
            if control.cancelled():
                raise Cancelled("counting")
            self.trouble(plan, step, record.attempts)
            time.sleep(plan.get("pause_s", 0.01))
            checkpoint.write_text(str(step + 1))
            control.progress({"event": "epoch", "epoch": step + 1, "epochs": plan["steps"], "from": first})
        if record.kind == "evaluate":
            return Outcome(result={"counted": plan["steps"]})
        return Outcome(digests=[f"{record.digest}-{record.attempts}"], result={"from": first})

    def trouble(self, plan: dict[str, int], step: int, attempt: int) -> None:
        if step == plan.get("die_at") and attempt <= plan.get("deaths", 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == plan.get("fail_at"):
            raise TrainingFailure("the loss is not finite in epoch 3", "lower the learning rate")
        if step == plan.get("break_at"):
            raise ZeroDivisionError("counting by zero")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    redis_url, folder, timing = sys.argv[1], Path(sys.argv[2]), Timing(**json.loads(sys.argv[3]))
    settings = WorkerSettings(redis_url=redis_url, registry=str(folder), device="cpu", timing=timing)
    sys.exit(serve(settings, Counting(folder), FileRegistry(folder)))
