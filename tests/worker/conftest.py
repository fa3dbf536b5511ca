"""A real Redis of their own for the tests of jobs, and real worker processes on it.

``TEST_REDIS_SERVER=/usr/bin/redis-server pytest tests/worker`` tests against another server than the bundled one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from worker.contract import DecomposeRequest, JobRecord
from worker.embedded import EmbeddedRedis
from worker.jobs import Jobs
from worker.settings import Timing

TIMING = Timing(lease_s=2.0, heartbeat_s=0.4, flag_s=0.1, ring_s=1.0, reap_s=0.3)
PATIENCE_S = 30.0


class Bench:
    """Jobs that count, the workers that do them, and what both leave behind.

    `folder` keeps the fake workers' checkpoints, publications and versions, and a line per attempt.
    """

    def __init__(self, redis: EmbeddedRedis, folder: Path) -> None:
        self.redis, self.folder, self.timing = redis, folder, TIMING
        self.jobs = Jobs(redis.url)
        self.log = folder / "log"
        self._workers: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def counting(*, name: str = "count", **plan: float) -> DecomposeRequest:
        """A request for a fake worker, by what its count should meet."""
        return DecomposeRequest(name=name, model=json.dumps({"steps": 3, **plan}), threshold="0.9")

    def submit(self, **plan: float) -> str:
        """The id of a job that counts."""
        return self.jobs.submit(self.counting(**plan)).id

    def start_worker(self, name: str = "fake_worker.py") -> subprocess.Popen[bytes]:
        """A new worker, killed when the test ends."""
        program = Path(__file__).with_name(name)
        command = [sys.executable, str(program), self.redis.url, str(self.folder), json.dumps(asdict(self.timing))]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.log.open("ab") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        self._workers.append(worker)
        return worker

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    def until_step(self, job_id: str, step: int) -> None:
        """Wait until a job has told of a step."""
        self.until(lambda: (self.jobs.get(job_id).progress or {}).get("epoch", 0) >= step)

    def ended(self, job_id: str) -> JobRecord:
        """A job's record, once it has ended."""
        self.until(lambda: self.jobs.get(job_id).done)
        return self.jobs.get(job_id)

    def attempts(self) -> list[tuple[str, int]]:
        """(job, token) of every attempt, in order."""
        path = self.folder / "attempts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(job_id, int(token)) for job_id, token in map(str.split, lines)]

    def versions(self) -> list[str]:
        """What was published under the usual name."""
        return sorted(path.name for path in self.folder.glob("count-*"))

    def close(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.jobs.close()


@pytest.fixture(scope="session", autouse=True)
def _server() -> None:
    if "TEST_REDIS_SERVER" in os.environ:
        os.environ["MODA_REDIS_SERVER"] = os.environ["TEST_REDIS_SERVER"]


@pytest.fixture(scope="module")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def bench(running_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Bench]:
    """A bench on a Redis without a key; what its workers logged is shown when the test fails."""
    bench = Bench(running_redis, tmp_path)
    bench.jobs.redis.flushall()
    yield bench
    bench.close()
    sys.stdout.write(bench.log.read_text() if bench.log.exists() else "")


@pytest.fixture
def jobs(bench: Bench) -> Jobs:
    return bench.jobs
