"""Ray Serve: its replicas' limit of requests at a time raised so that batches can fill.

    python -m benchmarks.serving.peers.ray_server PORT BATCH

A batch waits for nobody: with 5 ms, one client waits twice as long and 32 are not answered sooner. On SIGTERM it
shuts down as its documentation has it.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.classifiers import answers, loaded

__all__ = ["Batching", "Single", "main"]

_MOST_REQUESTS = 256


async def _image(request: Request) -> tuple[str, bytes]:
    key = request.query_params["model"]
    if request.headers["content-type"].startswith("image/"):
        return key, await request.body()
    async with request.form() as form:
        return key, await form["image"].read()  # type: ignore[union-attr]


@serve.deployment(max_ongoing_requests=_MOST_REQUESTS)
class Single:
    """One request after another."""

    def __init__(self) -> None:
        loaded("tiny-module")

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One answer."""
        return answers([await _image(request)])[0]


@serve.deployment(max_ongoing_requests=_MOST_REQUESTS)
class Batching:
    """Up to 32 requests together."""

    def __init__(self) -> None:
        loaded("tiny-module")

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)  # type: ignore[untyped-decorator]
    async def classify(self, asked: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
        """One batch."""
        return answers(asked)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One answer out of a batch."""
        found: dict[str, Any] = await self.classify(await _image(request))
        return found


def main() -> None:
    """The server."""
    port, batch, workers = int(sys.argv[1]), int(sys.argv[2]), int(os.environ["MODA_BENCH_WORKERS"])
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(include_dashboard=False, _temp_dir=folder, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
        chosen: Any = Batching if batch > 1 else Single
        serve.run(chosen.options(num_replicas=workers).bind(), route_prefix="/predict")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
