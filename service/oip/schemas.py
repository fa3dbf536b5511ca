"""What the protocol's requests and answers look like.

Unknown members and parameters are passed over, as the protocol has it: clients of other servers send
theirs. What is known is strict.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from service.schemas import MAX_CLASSES

__all__ = [
    "InferenceError",
    "InferenceRequest",
    "InferenceResponse",
    "InputParameters",
    "InputTensor",
    "ModelMetadata",
    "ModelReady",
    "OutputParameters",
    "OutputTensor",
    "RepositoryIndex",
    "RepositoryLoad",
    "RepositoryRow",
    "RequestParameters",
    "RequestedOutput",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "TensorMetadata",
]

_Size = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


# What is asked


class InputParameters(_Sent):
    """How an input's data comes."""

    binary_data_size: int | None = Field(
        default=None, ge=0, description="Bytes of this input behind the JSON, in place of `data`."
    )
    shared_memory_region: str | None = Field(default=None, description="Not supported.")


class InputTensor(_Sent):
    """Images, in one of two forms."""

    name: Literal["images", "encoded"] = Field(
        description="`images` are decoded pixels, UINT8 [images, 1 or 3, height, width], of any size: they are fitted "
        "to the model's. `encoded` are image files (PNG, JPEG, ...), BYTES [images] or [images, 1]."
    )
    datatype: Literal["UINT8", "BYTES"]
    shape: list[_Size] = Field(min_length=1, max_length=4, examples=[[1, 3, 32, 32]])
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description="Row-major, flat or nested: whole numbers from 0 to 255, or base64 of image files."
    )


class OutputParameters(_Sent):
    """In which form an output is wanted."""

    binary_data: bool | None = Field(default=None, description="Behind the JSON, in place of `data`.")
    classification: int | None = Field(
        default=None, ge=1, description="The k best classes in place of all numbers: BYTES `score:index:label`."
    )
    shared_memory_region: str | None = Field(default=None, description="Not supported.")


class RequestedOutput(_Sent):
    """An output that is wanted."""

    name: Literal["logits", "probabilities", "label"]
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Sent):
    """Parameters of the whole request; `classes` and `threshold` are MODA's own."""

    binary_data_output: bool = Field(
        default=False, description="`binary_data` of every output that does not say itself."
    )
    classes: str | Annotated[list[str], Field(max_length=MAX_CLASSES)] | None = Field(
        default=None, description="Compose the model for these labels first: a list, or one text with commas."
    )
    threshold: StrictStr | StrictInt | StrictFloat | None = Field(default=None, description="τ of that composition.")
    timeout: int | None = Field(default=None, ge=1, description="Microseconds after which the answer is given up.")


class InferenceRequest(_Sent):
    """Images to classify."""

    id: str = Field(default="", max_length=1000, description="Given back in the answer.")
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(
        default=[], max_length=3, description="`probabilities` and `label` when none is named."
    )


class RepositoryIndex(_Sent):
    """Which rows of the index are wanted."""

    ready: bool = Field(default=False, description="Only those that are ready.")


class RepositoryLoad(_Sent):
    """How a model is loaded or unloaded: there is nothing to choose."""

    parameters: dict[str, Any] = Field(default={}, description="`config` and `file:...` are refused.")


# What is answered


class InferenceError(_Answer):
    """Any error below `/v2`."""

    error: str


class ServerMetadata(_Answer):
    """Who answers, and what it can do beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(_Answer):
    """The process answers."""

    live: bool


class ServerReady(_Answer):
    """The registry can be used."""

    ready: bool


class ModelReady(_Answer):
    """The model can be asked."""

    name: str
    ready: bool


class TensorMetadata(_Answer):
    """A tensor that a model takes or gives; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Answer):
    """A model.

    `parameters` names the digest that answers, its version, the composition if it is one, the labels in
    the order of the outputs' columns, and the size (pixels) that images are fitted to.
    """

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class OutputTensor(_Answer):
    """An output; its data is flat and row-major, or `parameters.binary_data_size` bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferenceResponse(_Answer):
    """What a model says, and which one: `parameters` names its digest, and its composition if it is one."""

    id: str | None = None
    model_name: str
    model_version: str
    parameters: dict[str, str]
    outputs: list[OutputTensor]


class RepositoryRow(_Answer):
    """A version of a model, and whether it can be asked."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str
