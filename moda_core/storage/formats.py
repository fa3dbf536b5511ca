"""The formats in which a model's file can be had."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["FORMATS", "FileFormat"]

FileFormat = Literal["safetensors", "onnx", "pt2"]
"""safetensors: MODA's own, complete. onnx, and pt2 (`torch.export`): programs that only answer, for other runtimes."""

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
