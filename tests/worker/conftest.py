"""A real Redis of their own for the tests of jobs, and real worker processes on it."""

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


@pytest.fixture(scope="module")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(running_redis: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    """A running server without a key."""
    jobs = Jobs(running_redis.url)
    jobs.redis.flushall()
    jobs.close()
    return running_redis


@pytest.fixture
def jobs(redis: EmbeddedRedis) -> Iterator[Jobs]:
    jobs = Jobs(redis.url)
    yield jobs
    jobs.close()


@pytest.fixture
def timing() -> Timing:
    return TIMING


@pytest.fixture
def counting() -> Callable[..., DecomposeRequest]:
    """A request for a fake worker, by what its count should meet."""

    def request(*, name: str | None = "count", **plan: float) -> DecomposeRequest:
        return DecomposeRequest(name=name, model=json.dumps({"steps": 3, **plan}), threshold="0.9")

    return request


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    return wait


@pytest.fixture
def ended(jobs: Jobs, until: Callable[[Callable[[], object]], None]) -> Callable[[str], JobRecord]:
    """Wait for a job's end."""

    def wait(job_id: str) -> JobRecord:
        until(lambda: jobs.get(job_id).done)
        return jobs.get(job_id)

    return wait


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the fake workers of a test keep checkpoints, versions and a line per attempt."""
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


StartWorker = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(redis: EmbeddedRedis, folder: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a fake worker; all are killed when the test ends, and what they logged is shown if it failed."""
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "worker.log"

    def start() -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("fake_worker.py")
        command = [sys.executable, str(program), redis.url, str(folder), json.dumps(asdict(TIMING))]
        root = str(Path(__file__).parents[2])
        with log.open("ab") as output:
            started.append(
                subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": root}
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    sys.stdout.write(log.read_text() if log.exists() else "")
