"""A model's file in the format that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from moda_core.modularity.models import Model
from moda_core.storage import artifacts
from moda_core.storage.export.onnx import to_onnx
from moda_core.storage.export.pt2 import to_pt2
from moda_core.storage.formats import FileFormat

__all__ = ["encode_as"]

_ENCODERS: Mapping[FileFormat, Callable[[Model], bytes]] = {
    "safetensors": artifacts.encode,
    "onnx": to_onnx,
    "pt2": to_pt2,
}


def encode_as(model: Model, file_format: FileFormat) -> bytes:
    """The file of a model in a format.

    Raises:
        NotExportable: when it cannot be written in this format, or would answer differently.
    """
    return _ENCODERS[file_format](model)
