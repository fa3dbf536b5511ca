"""Batch norm over all processes of a distributed training, for as long as it lasts.

torch's own kernels do it, on CUDA alone. Tests with CUDA and two devices compare them with one process
that has the whole batch; without CUDA, what is tested is that they take the places of a network's norms,
in its criterion too, and with a stand-in for them that two processes then have the gradients of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from moda_core.training.distributed import Ranks

__all__ = ["synced_batch_norm"]


@contextmanager
def synced_batch_norm(model: nn.Module, ranks: Ranks, wanted: bool = True) -> Iterator[None]:
    """Meanwhile, batch norm sees the joint batch, at the price of two exchanges a layer and step.

    A criterion over `model` is made within. Parameters and running statistics are the model's own. A
    single process keeps its norms as they are.
    """
    originals = _replaced_norms(model) if wanted and ranks.world > 1 else {}
    try:
        yield
    finally:
        for name, original in originals.items():
            synced = model.get_submodule(name)
            # moving a module to a device gives it other buffers
            original._parameters, original._buffers = synced._parameters, synced._buffers
            model.set_submodule(name, original.train(synced.training))


def _replaced_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The model's batch norms, by all their names, after others that share their states have taken their places."""
    named = model.named_modules(remove_duplicate=False)
    norms = {name: module for name, module in named if isinstance(module, _BatchNorm)}
    synced = {norm: nn.SyncBatchNorm.convert_sync_batchnorm(norm) for norm in norms.values()}  # type: ignore[no-untyped-call]
    for name, norm in norms.items():
        model.set_submodule(name, synced[norm].train(norm.training))
    return norms
