import base64

import pytest
import torch
from serving import png

from moda_core.errors import TooLarge, UnreadableImage
from moda_core.specs import InputSpec
from service.inference.decoding import Decoder, EncodedImage, from_base64


@pytest.fixture
def decoder():
    return Decoder(max_pixels=500)


def decoded(decoder: Decoder, *files: bytes):
    images = [EncodedImage(f"image[{i}]", file) for i, file in enumerate(files)]
    return decoder.fitted(images, [InputSpec(image_size=16, channels=1, mean=(0.5,), std=(0.3,))])


def test_images_keep_their_order(decoder: Decoder):
    (both,) = decoded(decoder, png(1), png(2, (8, 4)))
    (first,), (second,) = decoded(decoder, png(1)), decoded(decoder, png(2, (8, 4)))
    assert both.shape == (2, 1, 16, 16)
    assert torch.equal(both, torch.cat([first, second]))


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
