import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, png_chunk
from PIL import Image
from torch._subclasses import FakeTensorMode

from moda_core.data.images import Header, decode, fit, normalise, read_header
from moda_core.errors import InvalidInput, TooLarge, UnreadableImage
from moda_core.specs import InputSpec


def declared_png(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it has width x height pixels."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(b"\0" * 16)) + png_chunk(b"IEND")


def rule(size: int, channels: int, mean: float = 0.0, std: float = 1.0) -> InputSpec:
    return InputSpec(image_size=size, channels=channels, mean=(mean,) * channels, std=(std,) * channels)


COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_files_give_their_pixels(kind: str) -> None:
    pixels = decode(encoded(Image.fromarray(COLOUR), kind))
    assert np.array_equal(pixels.numpy(), COLOUR.transpose(2, 0, 1))


def test_lossless_webp_and_jpeg_and_gif_are_read() -> None:
    flat = Image.new("RGB", (9, 4), (200, 30, 90))
    assert decode(encoded(flat, "WEBP", lossless=True)).tolist() == decode(encoded(flat)).tolist()
    difference = decode(encoded(flat, "JPEG", quality=95)).int() - decode(encoded(flat)).int()
    assert difference.abs().max() <= 3
    assert decode(encoded(flat, "GIF")).shape == (3, 4, 9)


def test_grey_has_one_channel() -> None:
    grey = COLOUR[:, :, 0]
    assert np.array_equal(decode(encoded(Image.fromarray(grey))).numpy()[0], grey)


def test_black_and_white_is_grey() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert decode(encoded(image)).tolist() == [[[0, 255], [255, 0]]]


def test_a_palette_becomes_colour() -> None:
    image = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert decode(encoded(image))[:, 0, 0].tolist() == [10, 200, 30]


def test_sixteen_bits_are_scaled_to_eight() -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(deep))).tolist() == [[[0, 1, 128, 255]]]


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert decode(encoded(image))[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]


def test_transparent_grey_stays_grey() -> None:
    image = Image.new("LA", (2, 1), (0, 0))
    assert decode(encoded(image)).tolist() == [[[255, 255]]]


def test_a_transparent_palette_is_laid_on_white() -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([9, 9, 9] * 256)
    assert decode(encoded(image, transparency=0)).flatten().tolist() == [255, 255, 255]
    assert decode(encoded(image, transparency=bytes([0] * 256))).flatten().tolist() == [255, 255, 255]


def test_exif_orientation_turns_the_image_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    data = encoded(Image.fromarray(COLOUR), exif=exif)
    assert np.array_equal(decode(data).numpy(), np.rot90(COLOUR, -1).transpose(2, 0, 1))
    assert read_header(data) == Header(3, 7, 5)


def test_cmyk_becomes_colour() -> None:
    assert decode(encoded(Image.new("CMYK", (3, 3)), "JPEG")).shape == (3, 3, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_the_header_tells_the_shape_that_decode_gives(mode: str) -> None:
    data = encoded(Image.new(mode, (6, 3)))
    header = read_header(data)
    assert decode(data).shape == (header.channels, header.height, header.width) == (header.channels, 3, 6)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"just some text, and not short either", "not an image"),
        (encoded(Image.fromarray(COLOUR))[:60], "broken or truncated PNG"),
        (encoded(Image.new("RGB", (64, 64), "red"), "JPEG")[:-200], "broken or truncated JPEG"),
        (b"\x89PNG\r\n\x1a\n", "broken or truncated PNG"),
        (b"GIF89a", "broken or truncated GIF"),
        (b"%PDF-1.4 a document", "not an image"),
    ],
)
def test_bytes_that_are_no_image_are_unreadable(data: bytes, problem: str) -> None:
    with pytest.raises(UnreadableImage, match=problem) as caught:
        decode(data, field="image[3]")
    assert caught.value.field == "image[3]"
    assert "PNG, JPEG" in caught.value.remedy


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 10_000), (2**31 - 1, 2)])
def test_an_image_declared_too_large_is_refused_unseen_and_without_a_warning(width: int, height: int) -> None:
    recorded = warnings.catch_warnings(record=True, action="always")
    with recorded as leaked, pytest.raises(TooLarge, match="more than 50,000,000 pixels"):
        decode(declared_png(width, height))
    assert not leaked


def test_the_limit_of_pixels_is_the_callers() -> None:
    data = encoded(Image.fromarray(COLOUR))
    assert decode(data, max_pixels=35).shape == (3, 5, 7)
    with pytest.raises(TooLarge, match="7 x 5 pixels"):
        decode(data, max_pixels=34)


def test_a_large_image_within_a_raised_limit_is_no_warning_either() -> None:
    assert read_header(declared_png(10_000, 10_000), max_pixels=10**9) == Header(3, 10_000, 10_000)


SAMPLES = [encoded(Image.fromarray(COLOUR), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_damage_is_an_image_or_an_input_error(sample: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(sample)
    for position, value in damage:
        data[position % len(data)] = value
    try:
        pixels = decode(bytes(data), max_pixels=10_000)
    except InvalidInput:
        return
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] in (1, 3)


def test_fit_leaves_a_fitting_image_alone() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert fit(pixels, rule(8, 3)) is pixels


def test_grey_from_colour_is_luma_as_pillow_has_it() -> None:
    pixels = torch.from_numpy(COLOUR.transpose(2, 0, 1).copy())[None, :, :, :5]
    expected = np.asarray(Image.fromarray(COLOUR[:, :5]).convert("L")).astype(int)
    assert np.abs(fit(pixels, rule(5, 1))[0, 0].numpy().astype(int) - expected).max() <= 1


def test_colour_from_grey_repeats_it() -> None:
    grey = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(fit(grey, rule(4, 3)), grey.repeat(1, 3, 1, 1))


@pytest.mark.parametrize("size", [3, 8, 20])
def test_resizing_is_bilinear_with_antialiasing_as_pillow_has_it(size: int) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (13, 9, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    fitted = fit(decode(encoded(image))[None], rule(size, 3))[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(fitted - expected).max() <= 1


def test_many_images_are_fitted_as_one_is() -> None:
    pixels = torch.randint(0, 256, (1030, 1, 4, 5), dtype=torch.uint8)
    fitted = fit(pixels, rule(3, 3))
    assert torch.equal(fitted[1029], fit(pixels[1029:], rule(3, 3))[0])


def test_no_images_fit_to_no_images() -> None:
    assert fit(torch.empty(0, 3, 9, 9, dtype=torch.uint8), rule(4, 1)).shape == (0, 1, 4, 4)


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert normalise(pixels, rule(1, 1, 0.2, 0.4)).flatten().tolist() == pytest.approx([-0.5, 0.0, 2.0], abs=1e-6)


def test_a_traced_normalisation_leaves_the_next_real_one_alone() -> None:
    pixels, spec = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8), rule(4, 3, 0.125, 0.625)
    with FakeTensorMode() as fake:
        assert normalise(fake.from_tensor(pixels), spec).shape == pixels.shape
    assert type(normalise(pixels, spec)) is torch.Tensor
    assert torch.allclose(normalise(pixels, spec), torch.full((2, 3, 4, 4), 0.12), atol=1e-6)


def test_an_exported_normalisation_is_the_real_one() -> None:
    class Door(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return normalise(pixels, spec)

    pixels, spec = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8), rule(4, 3, 0.1875, 0.5)
    exported = torch.export.export(Door(), (pixels,)).module()
    assert torch.equal(exported(pixels), normalise(pixels, spec))
