"""PNG files by the short way: the same pixels as by Pillow's, or none."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, png_chunk
from PIL import Image
from torch import Tensor

from moda_core.data import images, png
from moda_core.data.png import SIGNATURE, plain_pixels, size_in
from moda_core.errors import UnreadableImage

BEFORE_PIXELS = len(SIGNATURE) + 12 + 13  # where the second chunk begins


def drawn(width: int, height: int, mode: str) -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, shape, dtype=np.uint8))


def with_stream(data: bytes, *streams: bytes) -> bytes:
    """A file whose pixels are other compressed streams, every check right."""
    return data[:BEFORE_PIXELS] + b"".join(png_chunk(b"IDAT", stream) for stream in streams) + png_chunk(b"IEND")


def stream_of(data: bytes) -> bytes:
    return data[BEFORE_PIXELS + 8 : -16]


def by_pillow(data: bytes) -> Tensor | None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(images, "plain_pixels", lambda _data: None)
        try:
            return images.decode(data, max_pixels=10_000)
        except UnreadableImage:
            return None


@pytest.fixture
def _decoder_anew() -> Iterator[None]:
    png._decoder.cache_clear()
    yield
    png._decoder.cache_clear()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (16, 16), (33, 2), (1, 64)])
@pytest.mark.parametrize("level", [0, 6, 9])
def test_a_plain_file_has_the_pixels_that_pillow_finds(mode: str, width: int, height: int, level: int) -> None:
    data = encoded(drawn(width, height, mode), compress_level=level)
    found, expected = plain_pixels(data), by_pillow(data)
    assert found is not None
    assert expected is not None
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert torch.equal(found, expected)


def test_pixels_may_come_in_several_pieces() -> None:
    data = encoded(drawn(7, 5, "RGB"))
    stream = stream_of(data)
    found = plain_pixels(with_stream(data, stream[:9], b"", stream[9:]))
    assert found is not None
    assert torch.equal(found, images.decode(data))


OTHERS = {
    "transparent": encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 9))),
    "one transparent colour": encoded(drawn(4, 4, "RGB"), transparency=(1, 2, 3)),
    "palette": encoded(drawn(4, 4, "RGB").quantize(4)),
    "sixteen bits": encoded(Image.fromarray(np.zeros((4, 4), np.uint16))),
    "one bit": encoded(Image.new("1", (4, 4))),
    "resolution": encoded(drawn(4, 4, "L"), dpi=(300, 300)),
    "no PNG": b"GIF89a" + bytes(60),
    "nothing": b"",
    "signature alone": SIGNATURE,
    "no pixels": encoded(drawn(4, 4, "L"))[:BEFORE_PIXELS] + png_chunk(b"IEND"),
    "no end": encoded(drawn(4, 4, "L"))[:-12],
    "more behind the end": encoded(drawn(4, 4, "L")) + b"more",
    "two ends": encoded(drawn(4, 4, "L")) + png_chunk(b"IEND"),
    "an end with data": encoded(drawn(4, 4, "L"))[:-12] + png_chunk(b"IEND", b"data"),
    "two sizes": encoded(drawn(4, 4, "L"))[:BEFORE_PIXELS] + encoded(drawn(4, 4, "L"))[len(SIGNATURE) :],
    "no size": SIGNATURE + encoded(drawn(4, 4, "L"))[BEFORE_PIXELS:],
    "a longer size": SIGNATURE
    + png_chunk(b"IHDR", encoded(drawn(4, 4, "L"))[16:29] + b"more")
    + encoded(drawn(4, 4, "L"))[BEFORE_PIXELS:],
    "interlaced": SIGNATURE
    + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1))
    + encoded(drawn(1, 1, "L"))[BEFORE_PIXELS:],
    "a chunk longer than the file": encoded(drawn(4, 4, "L"))[:BEFORE_PIXELS] + struct.pack(">I", 2**31) + b"IDAT" * 9,
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_every_other_file_is_left_to_pillow(data: bytes) -> None:
    assert plain_pixels(data) is None


def test_a_file_that_says_how_to_turn_it_is_left_to_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert plain_pixels(encoded(drawn(7, 5, "RGB"), exif=exif)) is None


@given(
    st.sampled_from([encoded(drawn(7, 5, mode), compress_level=level) for mode in ("L", "RGB") for level in (0, 6)]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_has_the_pixels_that_pillow_finds_or_none(data: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in damage:
        damaged[position % len(data)] = value
    found = plain_pixels(bytes(damaged))
    assert found is None or torch.equal(found, by_pillow(bytes(damaged)))


@given(
    st.sampled_from([encoded(drawn(7, 5, mode), compress_level=level) for mode in ("L", "RGB") for level in (0, 6)]),
    st.integers(0, 10**6),
    st.integers(0, 255),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_stream_in_sound_chunks_has_the_pixels_that_pillow_finds_or_none(
    data: bytes, position: int, value: int, compressed: bool
) -> None:
    stream = stream_of(data)
    damaged = bytearray(stream if compressed else zlib.decompress(stream))
    damaged[position % len(damaged)] = value
    sent = with_stream(data, bytes(damaged) if compressed else zlib.compress(bytes(damaged)))
    found = plain_pixels(sent)
    assert found is None or torch.equal(found, by_pillow(sent))


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_too_few_pixels_are_none(rows: int) -> None:
    data = encoded(drawn(7, 5, "L"))
    assert plain_pixels(with_stream(data, zlib.compress(zlib.decompress(stream_of(data))[: 8 * rows]))) is None


@pytest.mark.usefixtures("_decoder_anew")
@pytest.mark.parametrize("missing", ["package", "library", "operation"])
def test_without_a_decoder_pillow_reads_everything(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> None:
        raise OSError("undefined symbol")

    if missing == "package":
        monkeypatch.setattr(png.importlib.util, "find_spec", lambda _name: None)
    elif missing == "library":
        monkeypatch.setattr(torch.ops, "load_library", refuse)
    else:
        monkeypatch.setattr(torch.ops, "image", SimpleNamespace())
    picture = drawn(7, 5, "RGB")
    assert plain_pixels(encoded(picture)) is None
    assert np.array_equal(images.decode(encoded(picture)).numpy(), np.asarray(picture).transpose(2, 0, 1))


def test_the_size_is_read_from_the_first_bytes() -> None:
    assert size_in(encoded(drawn(7, 5, "L"))[:24]) == (7, 5)
    assert size_in(encoded(drawn(7, 5, "L"))[:23]) is None
    assert size_in(bytes(40)) is None


def test_decoding_does_not_import_torchvision() -> None:
    program = (
        "import sys; from moda_core.data.png import plain_pixels;"
        "assert plain_pixels(bytes.fromhex(sys.argv[1])) is not None;"
        "print([name for name in ('torchvision', 'sympy') if name in sys.modules])"
    )
    sent = encoded(drawn(3, 2, "RGB")).hex()
    done = subprocess.run(
        [sys.executable, "-c", program, sent], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
