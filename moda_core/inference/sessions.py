"""Networks run by ONNX Runtime: one call from pixels to logits, with convolutions in kernels of its own.

Of a small network's forward pass in torch most is what lies between operators: Python, and torch's choice of a kernel,
each time anew. Here all of that is decided when the network is loaded.
"""

from __future__ import annotations

from typing import Any

import onnxruntime
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from moda_core.inference.components import Apart
from moda_core.inference.lowering import LOGITS, MASKS, PIXELS, Lowered
from moda_core.inference.values import NotLowered

__all__ = ["Session"]

_ONLY_FATAL = 4
_BYTES_BESIDE = 128 * 1024
"""What a session takes beside its file and weights, measured."""


class Session(Apart):
    """A lowered network on the CPU, in the thread that calls it.

    It has no threads of its own and keeps no memory between calls: of small models there may be thousands. Large ones
    on many cores are faster in torch.

    Attributes:
        session: ONNX Runtime's.

    Raises:
        NotLowered: when it does not take the network, in its words.
    """

    def __init__(self, network: Lowered) -> None:
        super().__init__()
        self.size_bytes = len(network.file) + sum(weight.nbytes for weight in network.weights.values()) + _BYTES_BESIDE
        try:
            self.session = _session(network)
        except Exception as error:  # its errors have no class in common but this
            raise NotLowered(f"ONNX Runtime does not take the network: {error}") from error
        self.eval()

    def forward(self, *given: Shaped[Tensor, "batch ..."]) -> Float32[Tensor, "batch classes"]:
        """Logits of pixels, and of the units' masks where the network has them."""
        named = zip((PIXELS, MASKS), given, strict=False)
        (logits,) = self.session.run([LOGITS], {name: tensor.numpy() for name, tensor in named})
        return torch.from_numpy(logits)


def _session(network: Lowered) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ONLY_FATAL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(weight.numpy()) for weight in network.weights.values()]
    options.add_external_initializers(list(network.weights), held)
    return onnxruntime.InferenceSession(
        network.file,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=False,  # which prints, and tries again
    )
