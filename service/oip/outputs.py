"""What a model says, in the outputs that were asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from starlette.responses import Response
from torch import Tensor

from moda_core.errors import InvalidInput
from service.inference.engine import Prediction
from service.oip.requests import HEADER_LENGTH
from service.oip.schemas import InferenceRequest, RequestedOutput
from service.oip.targets import Target
from service.oip.tensors import Numbers, Texts

__all__ = ["check_outputs", "inference_response"]

_DEFAULT = (RequestedOutput(name="probabilities"), RequestedOutput(name="label"))


def check_outputs(asked: InferenceRequest) -> None:
    """Refuse outputs that cannot be had as they are asked for.

    Raises:
        InvalidInput: for one named twice, in shared memory, or labels by score.
    """
    names = [one.name for one in asked.outputs]
    if len(set(names)) < len(names):
        raise InvalidInput("outputs", names, "an output named twice", "name every output once")
    if any(one.parameters.shared_memory_region is not None for one in asked.outputs):
        raise InvalidInput("outputs", names, "shared memory is not supported", "take the data from the answer")
    if any(one.name == "label" and one.parameters.classification is not None for one in asked.outputs):
        remedy = "ask for the classification of logits or probabilities"
        raise InvalidInput("outputs", "label", "labels have no scores", remedy)


def inference_response(name: str, target: Target, asked: InferenceRequest, predicted: Prediction) -> Response:
    """The answer in JSON, and behind it the outputs that are wanted in binary.

    Columns stand in the order of the target's classes. Without named outputs there are two,
    `probabilities` and `label`.
    """
    columns = target.meant.columns(predicted.labels)
    outputs, behind = [], []
    for one in asked.outputs or _DEFAULT:
        tensor = _tensor(one, predicted.logits, columns, target.meant.classes)
        described = {"name": one.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if _in_binary(one, asked):
            behind.append(tensor.binary())
            outputs.append({**described, "parameters": {"binary_data_size": len(behind[-1])}})
        else:
            outputs.append({**described, "data": tensor.plain()})
    text = json.dumps(_head(name, target, asked) | {"outputs": outputs}, separators=(",", ":")).encode()
    if not behind:
        return Response(text, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(text))}
    return Response(b"".join([text, *behind]), headers=headers, media_type="application/octet-stream")


def _in_binary(one: RequestedOutput, asked: InferenceRequest) -> bool:
    own = one.parameters.binary_data
    return asked.parameters.binary_data_output if own is None else own


def _head(name: str, target: Target, asked: InferenceRequest) -> dict[str, Any]:
    recipe = target.meant.recipe
    origin = {"digest": target.meant.model, **({"composition": recipe.id} if recipe else {})}
    echoed = {"id": asked.id} if asked.id else {}
    return {**echoed, "model_name": name, "model_version": target.version, "parameters": origin}


def _tensor(
    one: RequestedOutput,
    logits: Float[Tensor, "images classes"],
    columns: Sequence[int] | None,
    classes: Sequence[str],
) -> Numbers | Texts:
    scores = logits if one.name == "logits" else logits.softmax(1)
    if columns is not None:
        scores = scores[:, columns]
    if one.name == "label":
        best = scores.max(1).indices.tolist()
        return Texts([classes[index] for index in best], [len(best)])
    best_k = one.parameters.classification
    return Numbers(scores) if best_k is None else _classified(scores, classes, best_k)


def _classified(scores: Float[Tensor, "images classes"], classes: Sequence[str], best_k: int) -> Texts:
    """``score:index:label`` of the best classes of each image, best first: the classification extension."""
    kept = min(best_k, len(classes))
    ranked = scores.sort(dim=1, descending=True, stable=True)
    rows = zip(ranked.values[:, :kept].tolist(), ranked.indices[:, :kept].tolist(), strict=True)
    best = [pair for row in rows for pair in zip(*row, strict=True)]
    texts = [f"{score:f}:{index}:{classes[index]}" for score, index in best]
    return Texts(texts, [len(scores), kept])
