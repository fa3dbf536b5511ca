"""One step of gradient descent, in the form that the execution asks for.

Whatever the form, every batch is one step of the same descent: what a form needs to get ready (a
compilation, the steps before a recording) happens on batches that count.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Optimizer

from moda_core.errors import InvalidInput
from moda_core.training.criteria import Criterion, Evaluated
from moda_core.training.distributed import ALONE, Ranks
from moda_core.training.execution import EAGER, Execution
from moda_core.training.recording import Recording

__all__ = ["LAYOUT", "Step", "lay_out"]

LAYOUT = torch.channels_last
"""How images and weights lie in memory while training: on the CPU too, convolutions are faster so."""

_Pixels = Float[Tensor, "batch channels height width"]
_Labels = Int64[Tensor, "batch"]


class Step:
    """Descends once along a criterion; on CUDA in bfloat16 autocast, on the CPU in float32.

    Compiled and recorded code is for one size of batch, that of the first; others run eagerly.

    Raises:
        InvalidInput: for an execution that is not for this device or number of ranks; in the first step, if
            it cannot be compiled.
    """

    def __init__(
        self,
        criterion: Criterion,
        optimizer: Optimizer,
        device: torch.device,
        execution: Execution = EAGER,
        ranks: Ranks = ALONE,
    ) -> None:
        execution.check(device, ranks.world)
        self.criterion, self.optimizer, self.device, self.ranks = criterion, optimizer, device, ranks
        self.parameters = [one for group in optimizer.param_groups for one in group["params"]]
        compiled = torch.compile(criterion, dynamic=False) if execution.compiled else criterion
        self.compiled: Callable[[Tensor, Tensor], Evaluated] = compiled
        self.recording = Recording(device) if execution.captured else None
        self.usual_size: int | None = None

    def set_rate(self, rate: float) -> None:
        """The learning rate from here on; on CUDA in place, where recorded steps read it."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def __call__(self, pixels: _Pixels, labels: _Labels) -> Float[Tensor, "means"]:
        """Loss, cross-entropy, the criterion's terms and accuracy, means over the batch, still on the device.

        Of several ranks, the accuracy is that of this one's share. What a captured step returns, the next
        one overwrites.
        """
        pixels = pixels.contiguous(memory_format=LAYOUT)
        if self.usual_size is None:
            self.usual_size = len(labels)
        if len(labels) != self.usual_size:
            return self.eager(pixels, labels)
        if self.recording is not None:
            return self.recording(self._usual, pixels, labels)
        return self._usual(pixels, labels)

    def eager(self, pixels: _Pixels, labels: _Labels) -> Float[Tensor, "means"]:
        """The step as written, whatever the execution; the parameters keep its gradients until the next one."""
        return self._descend(self.criterion, pixels, labels)

    def _usual(self, pixels: _Pixels, labels: _Labels) -> Float[Tensor, "means"]:
        try:
            return self._descend(self.compiled, pixels, labels)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise InvalidInput(
                "compiled", True, f"torch.compile failed: {error}", "install a C++ compiler, or leave it off"
            ) from error

    def _descend(
        self, criterion: Callable[[Tensor, Tensor], Evaluated], pixels: _Pixels, labels: _Labels
    ) -> Float[Tensor, "means"]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            found = criterion(pixels, labels)
        self.optimizer.zero_grad()
        found.loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.parameters)
        self.optimizer.step()
        return _means(found, labels)


def lay_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Give those parameters of a model that have four dimensions a layout, in place."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


@torch.no_grad()
def _means(found: Evaluated, labels: Int64[Tensor, "batch"]) -> Float[Tensor, "means"]:
    accuracy = (found.logits.argmax(dim=1) == labels).float().mean()
    return torch.cat((torch.stack((found.loss, found.cross_entropy)), found.terms, accuracy[None]))
