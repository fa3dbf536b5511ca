import asyncio
import base64

import pytest
from serving import png

from moda_core.errors import TooLarge, UnreadableImage
from service.inference.decoding import Decoder, EncodedImage, from_base64


@pytest.fixture
def decoder():
    decoder = Decoder(max_pixels=500)
    yield decoder
    decoder.close()


def decoded(decoder: Decoder, *files: bytes):
    return asyncio.run(decoder.decode([EncodedImage(f"image[{i}]", file) for i, file in enumerate(files)]))


def test_images_keep_their_order(decoder: Decoder):
    first, second = decoded(decoder, png(1), png(2, (8, 4)))
    assert (first.shape, second.shape) == ((1, 16, 16), (1, 4, 8))


def test_pixels_are_limited_for_all_images_of_a_request_together(decoder: Decoder):
    with pytest.raises(TooLarge, match="together") as caught:
        decoded(decoder, png(), png())
    assert caught.value.field == "image[1]"
    with pytest.raises(TooLarge) as caught:
        decoded(decoder, png(size=(30, 30)))
    assert "together" not in str(caught.value)


@pytest.mark.parametrize("text", ["***", "abc", "ü", "aGk=\n"])
def test_what_is_not_base64_names_its_field(text: str):
    with pytest.raises(UnreadableImage) as caught:
        from_base64("instances.0.b64", text)
    assert caught.value.field == "instances.0.b64"


def test_base64_longer_than_a_piece_is_read_whole_and_strictly():
    data = bytes(range(256)) * 3000
    text = base64.b64encode(data).decode()
    assert from_base64("image", text).data == data
    padded = base64.b64encode(data[: 2**18 * 3 // 4 - 1]).decode()
    assert len(padded) == 2**18
    for wrong in (padded + text, text[:-1], text[: 2**18] + "\n" + text[2**18 :]):
        with pytest.raises(UnreadableImage):
            from_base64("image", wrong)
