"""The worker as it is, with the timing of a test: ``real_worker.py REDIS_URL REGISTRY TIMING``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch

from moda_core.storage.registry import Registry
from worker.execution import Execution
from worker.process import serve
from worker.settings import Timing, WorkerSettings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(1)
    redis_url, folder, timing = sys.argv[1], sys.argv[2], Timing(**json.loads(sys.argv[3]))
    settings = WorkerSettings(redis_url=redis_url, registry=folder, device="cpu", timing=timing)
    registry = Registry(settings.registry)
    sys.exit(serve(settings, Execution(registry, settings.device, Path(folder) / "downloads"), registry))
