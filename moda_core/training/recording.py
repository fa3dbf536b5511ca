"""Steps recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["STEPS_BEFORE_RECORDING", "Recording"]

STEPS_BEFORE_RECORDING = 3
"""In which libraries choose their algorithms and the optimizer makes its buffers, outside the recording."""


class Recording:
    """Steps of one size, recorded once as a CUDA graph and replayed: the device waits for no Python.

    The first few run as they are, on the stream that will be recorded, as torch's notes on CUDA graphs
    ask for. The next one is recorded, which runs nothing, and then replayed like all that follow.

    It is given its step anew with every batch and keeps none, so that a step that owns a recording
    is gone, and the graph's memory with it, as soon as nobody needs it.

    Args:
        device: where the batches lie, whichever device is the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.means: Tensor | None = None

    def __call__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        pixels: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, "batch"],
    ) -> Float[Tensor, "means"]:
        """One step; what it returns holds until the next one.

        Args:
            step: reads a batch and returns its means; the same every time, and must not read anything
                back from the device.
            pixels: of one shape, every time.
            labels: of these images.
        """
        self.steps += 1
        if self.steps <= STEPS_BEFORE_RECORDING:
            return self._beside(step, pixels, labels)
        if self.graph is None or self.inputs is None or self.means is None:
            self.inputs = pixels.clone(), labels.clone()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self.device), torch.cuda.graph(self.graph, stream=self.stream):
                self.means = step(*self.inputs)
        for kept, given in zip(self.inputs, (pixels, labels), strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.means

    def _beside(self, step: Callable[[Tensor, Tensor], Tensor], pixels: Tensor, labels: Tensor) -> Tensor:
        """One step as it is, on the recording's stream, in order with the current one."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            means = step(pixels, labels)
        current.wait_stream(self.stream)
        return means
