"""From the bytes of an image file to what a network sees at its door.

decode: bytes to pixels; fit: pixels to the network's channels and size; normalise: to numbers.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from moda_core.data.png import plain_pixels, size_in
from moda_core.errors import TooLarge, UnreadableImage
from moda_core.specs import InputSpec

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Header",
    "chunks",
    "decode",
    "fit",
    "mean_and_std",
    "normalise",
    "pixels_in",
    "read_header",
    "recoloured",
    "standardised",
]

MAX_PIXELS = 50_000_000
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION, _FIRST_TRANSPOSED = 0x0112, 5
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
_PIXELS_AT_ONCE = 2**24  # as float32 in three channels: 200 MB

# What Pillow's decoders raise on bytes that are not what they claim; Warning, where warnings are errors.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)


@dataclass(frozen=True)
class Header:
    """Shape of an image as `decode` would return it, read without decoding pixels."""

    channels: int
    height: int
    width: int


def decode(
    data: bytes, *, field: str = "image", max_pixels: int = MAX_PIXELS
) -> UInt8[Tensor, "channels height width"]:
    """Pixels of a PNG, JPEG, WebP, GIF (first frame), BMP or TIFF file: one channel if grey, else three.

    Turned upright by EXIF orientation; transparency is laid on white; 16 bits are scaled to 8.

    Raises:
        UnreadableImage: for bytes that are none of these, or cut off.
        TooLarge: for more than `max_pixels`, before any pixel is decoded.
    """
    size = size_in(data)
    if size is not None and size[0] * size[1] <= max_pixels and (plain := plain_pixels(data)) is not None:
        return plain
    with _opened(data, field, max_pixels) as image:
        try:
            image.load()
            pixels = _eight_bits(_upright(image))
        except _BROKEN as error:
            raise _unreadable(field, data, f"a broken or truncated {image.format} file") from error
    # numpy's own way to an image asks it for its attributes one by one, which takes as long as decoding a small one.
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.height, pixels.width, -1)
    return torch.from_numpy(rows.transpose(2, 0, 1).copy())


def read_header(data: bytes, *, field: str = "image", max_pixels: int = MAX_PIXELS) -> Header:
    """Shape of the image in `data`, from its first bytes.

    Raises:
        UnreadableImage, TooLarge: as `decode` does, but for breaks further down in the file.
    """
    with _opened(data, field, max_pixels) as image:
        width, height = image.size
        if _orientation(image) >= _FIRST_TRANSPOSED:
            width, height = height, width
        return Header(1 if image.mode in _GREY_MODES else 3, height, width)


def pixels_in(data: bytes) -> int:
    """Height times width of the image in `data`, from its first bytes and in microseconds; 0 for what is no image."""
    size = size_in(data)
    if size is not None:
        return size[0] * size[1]
    try:
        with _opened(data, "image", MAX_PIXELS) as image:
            return image.width * image.height
    except TooLarge:
        return MAX_PIXELS + 1
    except UnreadableImage:
        return 0


def fit(
    pixels: UInt8[Tensor, "batch channels height width"], input_spec: InputSpec
) -> UInt8[Tensor, "batch fitted_channels size size"]:
    """Images in the network's channels and size: grey by luma or repeated, resized bilinearly with antialiasing.

    Images that already fit are returned as they are.
    """
    channels, size = input_spec.channels, input_spec.image_size
    if pixels.shape[1:] == (channels, size, size):
        return pixels
    if not len(pixels):
        return pixels.new_empty(0, channels, size, size)
    largest = max(pixels.shape[2] * pixels.shape[3], size * size)
    parts = chunks(pixels, max(1, _PIXELS_AT_ONCE // largest))
    return torch.cat([_resized(recoloured(part, channels), size) for part in parts])


def normalise(
    pixels: UInt8[Tensor, "batch channels size size"], input_spec: InputSpec
) -> Float32[Tensor, "batch channels size size"]:
    """(pixel / 255 - mean) / std, channel by channel."""
    return standardised(pixels, *mean_and_std(input_spec, pixels.device))


def standardised(
    pixels: UInt8[Tensor, "batch channels size size"],
    mean: Float32[Tensor, "1 channels 1 1"],
    std: Float32[Tensor, "1 channels 1 1"],
) -> Float32[Tensor, "batch channels size size"]:
    """`normalise` with values that are on the device already: many batches need not wait for them one by one."""
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


def mean_and_std(
    input_spec: InputSpec, device: torch.device | str
) -> tuple[Float32[Tensor, "1 channels 1 1"], Float32[Tensor, "1 channels 1 1"]]:
    """What `standardised` takes, copied to a device, which waits for the host meanwhile."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
        for values in (input_spec.mean, input_spec.std)
    )
    return mean, std


def recoloured(
    pixels: UInt8[Tensor, "batch channels height width"], channels: int
) -> UInt8[Tensor, "batch recoloured height width"]:
    """Grey from colour by luma (ITU-R BT.601), colour from grey by repetition."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    red, green, blue = pixels.to(torch.float32).unbind(1)
    return (_RED * red + _GREEN * green + _BLUE * blue).round().to(torch.uint8)[:, None]


def chunks(pixels: UInt8[Tensor, "batch channels height width"], size: int) -> Iterator[UInt8[Tensor, "_ _ _ _"]]:
    """Views of at most `size` images each: what bounds the memory of a conversion."""
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]


def _opened(data: bytes, field: str, max_pixels: int) -> Image.Image:
    """The image, its header read.

    Pillow's own `Image.open` warns of large images, where we refuse them; and it tries some forty
    decoders, where six are enough to expose to strangers.
    """
    Image.init()
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(data[:16]) is not True:
            continue
        try:
            image: Image.Image = factory(io.BytesIO(data), "")
        except _BROKEN as error:
            raise _unreadable(field, data, f"a broken or truncated {name} file") from error
        if image.width * image.height > max_pixels:
            raise TooLarge(
                field,
                f"{image.width} x {image.height} pixels",
                f"more than {max_pixels:,} pixels",
                "give a smaller image",
            )
        return image
    raise _unreadable(field, data, "not an image" if data else "empty")


def _unreadable(field: str, data: bytes, problem: str) -> UnreadableImage:
    return UnreadableImage(field, data[:16], problem, "give a whole PNG, JPEG, WebP, GIF, BMP or TIFF file")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    plain = "L" if image.mode in _GREY_MODES else "RGB"
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, layered).convert(plain)
    return image if image.mode == plain else image.convert(plain)


def _resized(
    pixels: UInt8[Tensor, "batch channels height width"], size: int
) -> UInt8[Tensor, "batch channels size size"]:
    if pixels.shape[2:] == (size, size):
        return pixels
    resized = functional.interpolate(
        pixels.to(torch.float32), size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)
