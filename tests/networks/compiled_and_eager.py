"""Loss and gradients of a residual block, compiled and eager; in a process without shape checks, which cannot be compiled.

python compiled_and_eager.py     fails where they differ
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.criteria import Modular


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), BasicBlock(4, 4), nn.Flatten(), nn.Linear(4 * 36, 3))


def evaluated(compiled: bool) -> list[Tensor]:
    """Logits, losses, terms and every gradient."""
    model = network()
    criterion = Modular(model, UnitGraph.trace(network(), (1, 8, 8)))
    pixels, labels = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    called = torch.compile(criterion, backend="aot_eager", dynamic=False) if compiled else criterion
    found = called(pixels, labels)
    found.loss.backward()
    return [*found, *(parameter.grad for parameter in model.parameters())]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for found, expected in zip(evaluated(compiled=True), evaluated(compiled=False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # compiled, not skipped
