"""One step of gradient descent, in the form that the execution asks for."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import Optimizer

from moda_core.training.criteria import Criterion, cross_entropy
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution

__all__ = ["Step"]


class Step:
    """Descends once along a criterion.

    On CUDA the network runs in bfloat16 autocast and channels-last; on the CPU in float32.
    """

    def __init__(
        self,
        criterion: Criterion,
        optimizer: Optimizer,
        device: torch.device,
        execution: Execution = EAGER,
        ranks: Ranks = ALONE,
    ) -> None:
        self.criterion = torch.compile(criterion, dynamic=False) if execution.compiled else criterion
        self.optimizer, self.device, self.ranks = optimizer, device, ranks
        self.parameters = [one for group in optimizer.param_groups for one in group["params"]]
        self.on_cuda = device.type == "cuda"
        self.layout = torch.channels_last if self.on_cuda else torch.contiguous_format

    def __call__(
        self, pixels: Float[Tensor, "batch channels height width"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "means"]:
        """Loss, cross-entropy, the criterion's terms and accuracy, means over the batch, still on the device.

        Of several ranks, cross-entropy and accuracy are those of this one's share.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_cuda):
            logits, loss, terms = self.criterion(pixels.contiguous(memory_format=self.layout), labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.parameters)
        self.optimizer.step()
        return _means(logits.detach(), loss.detach(), terms.detach(), labels)


def _means(
    logits: Float[Tensor, "batch classes"],
    loss: Float[Tensor, ""],
    terms: Float[Tensor, "terms"],
    labels: Int64[Tensor, "batch"],
) -> Float[Tensor, "means"]:
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return torch.cat((torch.stack((loss, cross_entropy(logits, labels))), terms, accuracy[None]))
