"""What our service runs, as a function that anybody can call: for the peers, and without any server."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from moda_core.modularity.models import Model
from moda_core.modularity.networks import network
from moda_core.training.surroundings import full_float32

__all__ = ["our_executable", "our_form"]

_EXECUTABLES = "moda_core.inference.executables"
_FORM = "folded"


def our_form() -> str:
    """How it computes: ``folded`` where executables have forms, else the ``plain`` network."""
    return _FORM if find_spec("moda_core.inference") else "plain"


def our_executable(model: Model) -> Callable[[Tensor], Tensor]:
    """Fitted pixels (uint8, a batch) to logits."""
    if our_form() != "plain":
        ready: Callable[[Tensor], Tensor] = import_module(_EXECUTABLES).executable(model, _FORM)
        return ready
    plain = network(model)

    def run(pixels: Tensor) -> Tensor:
        with torch.inference_mode(), full_float32():
            logits: Tensor = plain(pixels)
            return logits

    return run
