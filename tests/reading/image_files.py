"""Image files for tests, whole or made of parts."""

import io
import struct
import zlib

from PIL import Image

__all__ = ["encoded", "png_chunk"]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The file that Pillow writes of an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG file, its check right."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
