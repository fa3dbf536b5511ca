"""PNG files of the commonest kind, decoded by the libpng that comes with torchvision (decision 10).

On a stream of pixels that is broken within sound chunks, libpng writes lines of its own to standard error.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import struct
import zlib
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["SIGNATURE", "plain_pixels", "size_in"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEAD = SIGNATURE + b"\0\0\0\rIHDR"  # then 13 bytes: width, height, form
_SIZE, _FORM = struct.Struct(">16xII"), slice(24, 29)
_FORMS = frozenset({b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00"})  # 8 bits, grey or RGB, not interlaced
_PIXELS = 33  # where the chunks of pixels begin
_END = b"\0\0\0\0IEND\xaeB`\x82"
_CHUNK, _CHECK = struct.Struct(">I4s"), struct.Struct(">I")  # length and name before the data, CRC behind it
_AS_IT_IS = 0  # torchvision's ImageReadMode.UNCHANGED

_Decode = Callable[[Tensor, int], Tensor]


def size_in(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG file, from its first bytes; None for another file."""
    if data.startswith(SIGNATURE) and len(data) >= _SIZE.size:
        width, height = _SIZE.unpack_from(data)
        return width, height
    return None


def plain_pixels(data: bytes) -> UInt8[Tensor, "channels height width"] | None:
    """Pixels of a PNG file of 8-bit grey or RGB that says nothing else about them.

    None for any other file, for a broken one, and where torchvision has no decoder.
    """
    decode = _decoder()
    if decode is None or not _is_plain(data):
        return None
    try:
        # bytes cannot be written to, which torch warns of.
        return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8), _AS_IT_IS).contiguous()
    except RuntimeError:
        return None


def _is_plain(data: bytes) -> bool:
    """Whether a file consists of its size, of pixels in one chunk or more, and an end, and all of it is sound."""
    if not data.startswith(_HEAD) or data[_FORM] not in _FORMS or not data.endswith(_END):
        return False
    start, last, expected, view = len(SIGNATURE), len(data) - len(_END), b"IHDR", memoryview(data)
    while start + _CHUNK.size + _CHECK.size <= last:
        length, name = _CHUNK.unpack_from(data, start)
        end = start + _CHUNK.size + length
        if name != expected or end + _CHECK.size > last:
            return False
        if zlib.crc32(view[start + 4 : end]) != _CHECK.unpack_from(data, end)[0]:
            return False
        start, expected = end + _CHECK.size, b"IDAT"
    return start == last > _PIXELS


@cache
def _decoder() -> _Decode | None:
    """The decoder of torchvision, loaded without the rest of it, whose import takes seconds and brings torch's compiler."""
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    library = importlib.machinery.PathFinder.find_spec("image", folders) if folders else None
    if library is None or library.origin is None:
        return None
    try:
        torch.ops.load_library(library.origin)  # type: ignore[no-untyped-call]
        found: _Decode = torch.ops.image.decode_png.default
    except (OSError, AttributeError):  # built without it, or for another torch
        return None
    return found
