"""Images as they arrive, decoded and fitted within one budget of pixels."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from moda_core.data.images import decode, fit
from moda_core.errors import TooLarge, UnreadableImage
from moda_core.specs import InputSpec

__all__ = ["Decoder", "EncodedImage", "from_base64"]

# Characters decoded at a time: one call keeps every other thread waiting, 10 ms for each MiB.
_PIECE = 2**18

_Pixels = UInt8[Tensor, "channels height width"]


@dataclass(frozen=True)
class EncodedImage:
    """An image file as sent, and where in the request it stood."""

    field: str
    data: bytes


def from_base64(field: str, text: str) -> EncodedImage:
    """An image file from its base64 text.

    Raises:
        UnreadableImage: if it is none.
    """
    pieces = range(0, len(text), _PIECE)
    try:
        decoded = [base64.b64decode(text[start : start + _PIECE], validate=True) for start in pieces]
        if any(4 * len(piece) != 3 * _PIECE for piece in decoded[:-1]):
            raise ValueError("padding before the end")
    except ValueError as error:
        raise UnreadableImage(field, text, "not base64", "send an image file in standard base64") from error
    return EncodedImage(field, b"".join(decoded))


class Decoder:
    """Decodes and fits the images of a request.

    Args:
        max_pixels: of all images of one request together.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def fitted(
        self, images: Sequence[EncodedImage | _Pixels], rules: Sequence[InputSpec]
    ) -> tuple[UInt8[Tensor, "images _channels _size _size"], ...]:
        """The images as a network takes them, one tensor for each of its inputs.

        Raises:
            UnreadableImage: for bytes that are no whole image.
            TooLarge: for more pixels than the limit, before any of them is decoded.
        """
        encoded = [image for image in images if isinstance(image, EncodedImage)]
        decoded = iter(self._decoded(encoded))
        pixels = [next(decoded) if isinstance(image, EncodedImage) else image for image in images]
        fitted = {rule: _joined([fit(image[None], rule) for image in pixels]) for rule in set(rules)}
        return tuple(fitted[rule] for rule in rules)

    def _decoded(self, images: Sequence[EncodedImage]) -> list[_Pixels]:
        decoded: list[_Pixels] = []
        left = self.max_pixels
        for image in images:
            try:
                pixels = decode(image.data, field=image.field, max_pixels=left)
            except TooLarge as error:
                if left == self.max_pixels:
                    raise
                remedy = f"send at most {self.max_pixels} pixels in one request"
                raise TooLarge(image.field, f"{len(images)} images", "too many pixels together", remedy) from error
            left -= pixels.shape[1] * pixels.shape[2]
            decoded.append(pixels)
        return decoded


def _joined(images: Sequence[Tensor]) -> Tensor:
    return images[0] if len(images) == 1 else torch.cat(tuple(images))
