"""A model as a `torch.export` file, ``.pt2``: for torch without MODA."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from moda_core.modularity.models import Model
from moda_core.storage.export.checking import check_answers
from moda_core.storage.export.programs import Program, exporting, program

__all__ = ["to_pt2"]


def to_pt2(model: Model) -> bytes:
    """The ``.pt2`` file of a model, checked by reading it again: ``torch.export.load(file).module()(pixels)``.

    Inputs are positional, in the order of ``inputs`` in its extra file ``moda``, which names the labels too.
    Like every such file it names the version of torch that wrote it.

    Raises:
        NotExportable: when it cannot be written, or the file answers differently.
    """
    traced = program(model)
    with exporting("written by torch.export"):
        data = _written(traced)
    with exporting("read again by torch.export"):
        read = torch.export.load(io.BytesIO(data)).module()
        check_answers(traced.entrance, lambda pixels: _run(read, pixels), "torch.export")
    return data


def _written(traced: Program) -> bytes:
    file = io.BytesIO()
    traced.exported.example_inputs = None  # they would be a pickle
    torch.export.save(traced.exported, file, extra_files={"moda": traced.metadata})
    return file.getvalue()


def _run(read: nn.Module, pixels: Sequence[UInt8[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch classes"]:
    with torch.inference_mode():
        logits: Tensor = read(*pixels)
    return logits
