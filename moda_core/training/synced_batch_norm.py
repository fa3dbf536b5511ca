"""Batch norm over all processes of a distributed training, for as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from moda_core.errors import InvalidInput
from moda_core.training.distributed import Ranks

__all__ = ["synced_batch_norm"]


@contextmanager
def synced_batch_norm(model: nn.Module, ranks: Ranks, device: torch.device | str) -> Iterator[None]:
    """Meanwhile, batch norm sees the joint batch, at the price of two exchanges a layer and step.

    A criterion over `model` is made within. Parameters and running statistics are the model's own.

    Raises:
        InvalidInput: on a CPU, where torch has no such batch norm.
    """
    if torch.device(device).type != "cuda":
        raise InvalidInput(
            "device", str(device), "batch norm over several processes needs CUDA", "leave it per process on a CPU"
        )
    if ranks.world == 1:
        yield
        return
    originals = _replaced_norms(model)
    try:
        yield
    finally:
        for name, original in originals.items():
            synced = model.get_submodule(name)
            # moving a module to a device gives it other buffers
            original._parameters, original._buffers = synced._parameters, synced._buffers
            model.set_submodule(name, original.train(synced.training))


def _replaced_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The model's batch norms, by name, after others that share their states have taken their places."""
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for name, norm in norms.items():
        synced = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        model.set_submodule(name, synced.train(norm.training))
    return norms
