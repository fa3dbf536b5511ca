"""A model as an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
import onnxruntime
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.modularity.models import Model
from moda_core.storage.export.checking import check_answers
from moda_core.storage.export.programs import OUTPUT, Program, exporting, program

__all__ = ["OPSET", "to_onnx"]

OPSET = 18
"""Of ONNX's own operators; no others are used. What torch writes without converting, and runtimes since 2023 read."""

_ONLY_FATAL = 4


def to_onnx(model: Model) -> bytes:
    """The ONNX file of a model, checked with onnxruntime against the model itself.

    Inputs ``pixels`` (and ``pixels_2``, ... for a patched model whose components take images of different
    shapes), output ``logits``, dimension ``batch``; ``moda`` in `metadata_props` names the labels.

    Raises:
        NotExportable: when it cannot be written, or the file answers differently.
    """
    traced = program(model)
    with exporting("written as ONNX"):
        data = _written(traced)
    with exporting("run by onnxruntime"):
        session = _session(data)
        check_answers(traced.entrance, lambda pixels: _run(session, traced.inputs, pixels), "onnxruntime")
    return data


def _written(traced: Program) -> bytes:
    converted = torch.onnx.export(
        traced.exported,
        dynamo=True,
        opset_version=OPSET,
        input_names=traced.inputs,
        output_names=[OUTPUT],
        dynamic_shapes={"pixels": tuple({0: "batch"} for _ in traced.inputs)},
        verbose=False,
    )
    assert converted is not None
    file = converted.model_proto
    _forget_origin(file)
    file.metadata_props.add(key="moda", value=traced.metadata)
    data: bytes = file.SerializeToString(deterministic=True)
    return data


def _forget_origin(file: onnx.ModelProto) -> None:
    """Remove what tells of the exporter, its version and its sources: the same model's file is the same."""
    file.producer_name, file.producer_version = "moda", ""
    for part in _parts(file):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _parts(file: onnx.ModelProto) -> Iterable[Any]:
    graph = file.graph
    return file, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ONLY_FATAL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(
    session: onnxruntime.InferenceSession, inputs: Sequence[str], pixels: Sequence[UInt8[Tensor, "batch _ _ _"]]
) -> Float[Tensor, "batch classes"]:
    given = {name: images.numpy() for name, images in zip(inputs, pixels, strict=True)}
    (logits,) = session.run([OUTPUT], given)
    return torch.from_numpy(logits)
