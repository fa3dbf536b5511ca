"""The images of a request: decoded pixels, or whole files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from moda_core.errors import InvalidInput, TooLarge
from service.inference.decoding import EncodedImage, from_base64
from service.oip.requests import SentRequest
from service.oip.schemas import InputTensor
from service.schemas import MAX_IMAGES

__all__ = ["encoded_images", "raw_images"]

_CHANNELS = (1, 3)
_PREFIX_BYTES = 4


def raw_images(sent: SentRequest, max_pixels: int) -> list[UInt8[Tensor, "channels height width"]]:
    """The pixels of an `images` input, one tensor per image.

    Raises:
        InvalidInput: for another datatype or shape, or data that does not fill it.
        TooLarge: for more images or pixels than are taken at once.
    """
    shape = _checked(sent.tensor, "UINT8", dimensions=(4,))
    if shape[1] not in _CHANNELS:
        raise _bad_shape(sent.tensor, "neither grey nor colour", "give [images, 1 or 3, height, width]")
    if shape[0] * shape[2] * shape[3] > max_pixels:
        raise TooLarge("inputs.0.shape", shape, "too many pixels together", f"send at most {max_pixels} pixels")
    values = bytearray(sent.binary if sent.binary is not None else _bytes(sent.tensor))
    if len(values) != math.prod(shape):
        raise _unfilled(sent.tensor, len(values))
    return list(torch.frombuffer(values, dtype=torch.uint8).view(shape).unbind())


def encoded_images(sent: SentRequest) -> list[EncodedImage]:
    """The image files of an `encoded` input: base64 in JSON, each behind its length in binary.

    Raises:
        InvalidInput: for another datatype or shape, or data that does not fill it.
        UnreadableImage: for text that is not base64.
        TooLarge: for more images than are taken at once.
    """
    shape = _checked(sent.tensor, "BYTES", dimensions=(1, 2))
    if math.prod(shape) != shape[0]:
        raise _bad_shape(sent.tensor, "not one file per image", "give [images] or [images, 1]")
    if sent.binary is not None:
        files = [EncodedImage(f"inputs.0.data.{at}", one) for at, one in enumerate(_elements(sent.binary))]
    else:
        files = [from_base64(f"inputs.0.data.{at}", one) for at, one in enumerate(_texts(sent.tensor))]
    if len(files) != shape[0]:
        raise _unfilled(sent.tensor, len(files))
    return files


def _checked(tensor: InputTensor, datatype: str, *, dimensions: Sequence[int]) -> list[int]:
    if tensor.datatype != datatype:
        raise InvalidInput(
            "inputs.0.datatype", tensor.datatype, f"not the datatype of {tensor.name}", f"use {datatype}"
        )
    if len(tensor.shape) not in dimensions:
        needed = " or ".join(map(str, dimensions))
        raise _bad_shape(tensor, f"not {needed} dimensions", "see the model's metadata for its inputs")
    if tensor.shape[0] > MAX_IMAGES:
        raise TooLarge("inputs.0.shape", tensor.shape, "too many images", f"send at most {MAX_IMAGES}")
    return tensor.shape


def _bytes(tensor: InputTensor) -> bytes:
    """Numbers from 0 to 255, as bytes."""
    try:
        return bytes(_flat(tensor))
    except (TypeError, ValueError) as error:
        problem = "not whole numbers from 0 to 255"
        raise InvalidInput("inputs.0.data", None, problem, "give every channel of every pixel as one") from error


def _texts(tensor: InputTensor) -> list[str]:
    values = _flat(tensor)
    if not all(isinstance(one, str) for one in values):
        raise InvalidInput("inputs.0.data", None, "not texts", "give every image file in base64")
    return values


def _flat(tensor: InputTensor) -> list[Any]:
    """The data in row-major order, however it was nested."""
    data = tensor.data or []
    if not data or not isinstance(data[0], list):
        return data
    level: list[Any] = [data]
    for size in tensor.shape:
        if not all(isinstance(row, list) and len(row) == size for row in level):
            remedy = "nest it as the shape says, or write it flat"
            raise InvalidInput("inputs.0.data", None, f"not nested as the shape {tensor.shape}", remedy)
        level = list(chain.from_iterable(level))
    return level


def _elements(binary: memoryview) -> Iterator[bytes]:
    """Byte strings, each behind its length in 4 bytes, little-endian."""
    while binary:
        end = _PREFIX_BYTES + int.from_bytes(binary[:_PREFIX_BYTES], "little")
        if len(binary) < max(end, _PREFIX_BYTES):
            problem = f"cut off: an element of {end} bytes with its length, of which {len(binary)} are there"
            raise InvalidInput(
                "inputs.0", None, problem, "write every file behind its length in 4 bytes, little-endian"
            )
        yield bytes(binary[_PREFIX_BYTES:end])
        binary = binary[end:]


def _bad_shape(tensor: InputTensor, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput("inputs.0.shape", tensor.shape, problem, remedy)


def _unfilled(tensor: InputTensor, given: int) -> InvalidInput:
    problem = f"{given} elements for a shape of {math.prod(tensor.shape)}"
    return InvalidInput("inputs.0.shape", tensor.shape, problem, "let shape and data agree")
