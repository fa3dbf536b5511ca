"""``python -m worker``: one worker, set up by ``MODA_*`` (see `worker.settings`)."""

from __future__ import annotations

import logging
import sys

from moda_core.errors import ModaError
from worker.process import serve
from worker.settings import WorkerSettings

__all__ = ["main"]


def main() -> int:
    """Serve until told to stop; exit status 2 for settings that cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("celery").setLevel(logging.WARNING)
    try:
        settings = WorkerSettings.from_environment()
        from moda_core.storage.registry import Registry
        from worker.execution import Execution

        registry = Registry(settings.registry)
        return serve(settings, Execution(registry, settings.device, settings.downloads), registry)
    except ModaError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
