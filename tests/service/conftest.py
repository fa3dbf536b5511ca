from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from serving import Running, running, serving

from worker.embedded import EmbeddedRedis, free_port


@pytest.fixture
def serve() -> Iterator[Callable[[object], httpx.Client]]:
    """Serve applications for the length of one test."""
    with ExitStack() as running:
        yield lambda app: running.enter_context(serving(app))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis: EmbeddedRedis) -> Iterator[Running]:
    """A service with jobs, and no worker to do them."""
    home = tmp_path_factory.mktemp("home")
    (home / "import").mkdir()
    with running(home, redis.url, import_dir=home / "import") as service:
        yield service


@pytest.fixture(scope="module")
def without_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose Redis is not there."""
    with running(tmp_path_factory.mktemp("home"), f"redis://127.0.0.1:{free_port()}/0") as service:
        yield service
