"""One step of gradient descent, in the form that the execution asks for."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from moda_core.training.criteria import Criterion
from moda_core.training.execution import EAGER, Execution

__all__ = ["Step"]


class Step:
    """Descends once along a criterion.

    On CUDA the network runs in bfloat16 autocast and channels-last; on the CPU in float32.
    """

    def __init__(
        self, criterion: Criterion, optimizer: Optimizer, device: torch.device, execution: Execution = EAGER
    ) -> None:
        self.criterion = torch.compile(criterion, dynamic=False) if execution.compiled else criterion
        self.optimizer, self.device = optimizer, device
        self.on_cuda = device.type == "cuda"
        self.layout = torch.channels_last if self.on_cuda else torch.contiguous_format

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "means"]:
        """Loss, cross-entropy, the criterion's terms and accuracy, means over the batch, still on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_cuda):
            logits, loss, terms = self.criterion(pixels.contiguous(memory_format=self.layout), labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return _means(logits.detach(), loss.detach(), terms.detach(), labels)


def _means(
    logits: Float[Tensor, "batch classes"],
    loss: Float[Tensor, ""],
    terms: Float[Tensor, "terms"],
    labels: Int64[Tensor, "batch"],
) -> Float[Tensor, "means"]:
    cross_entropy = nn.functional.cross_entropy(logits.float(), labels)
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return torch.cat((torch.stack((loss, cross_entropy)), terms, accuracy[None]))
