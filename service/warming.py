"""What the first answers after a start would wait for, done beforehand and in the background."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from moda_core.errors import ModaError
from moda_core.specs import ArchitectureSpec
from moda_core.storage.manifests import Manifest
from moda_core.storage.registry import Registry, Resolved
from moda_core.structure.unitgraph import unit_graph

__all__ = ["WarmUp", "architectures"]

_MOST = 8
_LOOK_S, _QUIET_LOOKS = 0.05, 10


class WarmUp:
    """Traces the networks of the newest models, once nobody is being answered.

    Nothing waits for it and nothing depends on it: what it has not done is done when it is asked for. For networks
    other than our own convolutional ones torch imports its compiler meanwhile, which holds the interpreter for a
    second or two; requests would notice.

    Args:
        registry: whose newest models are traced.
        quiet: whether nothing is being answered now.
    """

    def __init__(self, registry: Registry, quiet: Callable[[], bool] = lambda: True) -> None:
        self._registry, self._quiet = registry, quiet
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the network at hand."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def join(self, timeout_s: float) -> None:
        """Wait until it is done."""
        self._thread.join(timeout_s)

    def _is_left_alone(self) -> bool:
        """Wait until nothing was being answered for a while; False when it is to stop."""
        looks = 0
        while looks < _QUIET_LOOKS:
            if self._stopped.wait(_LOOK_S):
                return False
            looks = looks + 1 if self._quiet() else 0
        return True

    def _run(self) -> None:
        # A store that cannot be read, or a network that cannot be traced, is told to who asks for it.
        with suppress(ModaError):
            for architecture in architectures(self._registry.models()):
                if not self._is_left_alone():
                    return
                with suppress(ModaError):
                    unit_graph(architecture)
        gc.freeze()  # traces are kept, and what was imported for them


def architectures(models: Iterable[Resolved[Manifest]]) -> list[ArchitectureSpec]:
    """The architectures of models, each once, newest first, at most eight."""
    newest = sorted(models, key=lambda model: str(model.created_at), reverse=True)
    return list(dict.fromkeys(model.manifest.architecture for model in newest))[:_MOST]
