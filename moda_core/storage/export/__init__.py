"""Models as programs that run without MODA: ONNX, and `torch.export`'s ``.pt2``.

In: uint8 images [batch, channels, size, size], already of the model's size; normalisation is inside.
Out: float32 logits [batch, classes], in the order of the labels in the file's metadata.

While a model is exported, torch replaces the call of *every* module in the process, and holds the
interpreter for up to half a second at a time. A process that answers requests has another one export.
"""

from moda_core.storage.export.checking import TOLERANCE
from moda_core.storage.export.files import encode_as
from moda_core.storage.export.onnx import OPSET, to_onnx
from moda_core.storage.export.pt2 import to_pt2

__all__ = ["OPSET", "TOLERANCE", "encode_as", "to_onnx", "to_pt2"]
