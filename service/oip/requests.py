"""An inference request taken apart: its JSON, and the bytes that follow it (the binary tensor extension)."""

from __future__ import annotations

from dataclasses import dataclass

from moda_core.errors import InvalidInput
from service.oip.bodies import read_json
from service.oip.schemas import InferenceRequest, InputTensor

__all__ = ["HEADER_LENGTH", "SentRequest", "parse_request"]

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class SentRequest:
    """What was asked.

    Attributes:
        asked: the JSON.
        binary: the input's bytes behind the JSON; None where its `data` stands in the JSON.
    """

    asked: InferenceRequest
    binary: memoryview | None

    @property
    def tensor(self) -> InputTensor:
        """The one input."""
        return self.asked.inputs[0]


def parse_request(body: bytes, header_length: str | None) -> SentRequest:
    """The request in a body whose JSON has `header_length` bytes; all of it is JSON where that is None.

    With a length of 0 the body is one image file and nothing else (Triton's raw binary request).

    Raises:
        RequestValidationError: for JSON that is no such request.
        InvalidInput: for lengths that do not fit the body, or an input without data or with two.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if length == 0 and body:
        return _raw(body)
    sent = SentRequest(read_json(InferenceRequest, body[:length]), None)
    binary = _binary(sent.tensor, memoryview(body)[length:])
    return SentRequest(sent.asked, binary)


def _length(text: str, body_bytes: int) -> int:
    known = text.isascii() and text.isdecimal() and len(text) < 16
    if not known or int(text) > body_bytes:
        problem = f"not the length of the JSON in a body of {body_bytes} bytes"
        raise InvalidInput(HEADER_LENGTH, text, problem, "give the bytes of the JSON that the body begins with")
    return int(text)


def _raw(body: bytes) -> SentRequest:
    tensor = InputTensor(name="encoded", datatype="BYTES", shape=[1])
    return SentRequest(InferenceRequest(inputs=[tensor]), memoryview(len(body).to_bytes(4, "little") + body))


def _binary(tensor: InputTensor, rest: memoryview) -> memoryview | None:
    declared = tensor.parameters.binary_data_size
    if tensor.parameters.shared_memory_region is not None:
        remedy = "send the data in the request"
        raise InvalidInput("inputs.0.parameters", "shared_memory_region", "shared memory is not supported", remedy)
    if (declared is None) == (tensor.data is None):
        remedy = "give either data or parameters.binary_data_size"
        raise InvalidInput("inputs.0", tensor.name, "not one form of data", remedy)
    if len(rest) != (declared or 0):
        problem = f"{declared or 0} bytes are declared behind the JSON, and there are {len(rest)}"
        raise InvalidInput("body", tensor.name, problem, f"let {HEADER_LENGTH} and binary_data_size fit the body")
    return rest if declared is not None else None
