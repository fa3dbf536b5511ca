import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from moda_core.data.batches import Batches, augmented, evaluation_batches
from moda_core.data.dataset import Images
from moda_core.data.images import normalise
from moda_core.specs import InputSpec

PLAIN = InputSpec(image_size=4, channels=1, mean=(0.0,), std=(1.0,))


def numbered(count: int) -> Images:
    """Images that tell their position by colour, labelled by it modulo 3."""
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Images(pixels, torch.arange(count) % 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 40), st.integers(1, 12))
@settings(deadline=None)
def test_an_epoch_has_every_image_once_with_its_label(count: int, batch_size: int) -> None:
    batches = Batches(numbered(count), PLAIN, batch_size=batch_size, generator=generator())
    epoch = list(batches)
    seen = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in epoch]).mul(255).round().long()
    assert seen.sort().values.tolist() == list(range(count))
    assert torch.equal(torch.cat([labels for _, labels in epoch]), seen % 3)
    assert len(epoch) == len(batches)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(9, 4, [4, 5]), (8, 4, [4, 4]), (10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1] * 3)]
)
def test_a_lone_last_image_joins_the_batch_before(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = Batches(numbered(count), PLAIN, batch_size=batch_size, generator=generator())
    assert [len(labels) for _, labels in batches] == sizes


@pytest.mark.parametrize(("least", "sizes"), [(1, [4, 4, 3]), (3, [4, 4, 3]), (4, [4, 7]), (9, [4, 7])])
def test_a_last_batch_of_too_few_joins_the_batch_before(least: int, sizes: list[int]) -> None:
    batches = Batches(numbered(11), PLAIN, batch_size=4, generator=generator(), least=least)
    assert [len(labels) for _, labels in batches] == sizes


def test_shares_of_equal_generators_make_up_the_batches() -> None:
    def made(share):
        options = {"batch_size": 5, "generator": generator(3), "crop_padding": 1, "flip": True, "share": share}
        return [batch for _ in range(2) for batch in Batches(numbered(12), PLAIN, **options)]

    first, second, whole = (
        made(lambda size: slice(0, size // 2)),
        made(lambda size: slice(size // 2, size)),
        made(slice),
    )
    assert [len(labels) for _, labels in first] == [2, 2, 1] * 2
    for one, other, both in zip(first, second, whole, strict=True):
        assert all(torch.equal(torch.cat(pair), joint) for *pair, joint in zip(one, other, both, strict=True))


def test_batches_are_normalised_float32() -> None:
    rule = InputSpec(image_size=4, channels=1, mean=(0.5,), std=(0.25,))
    ((pixels, _),) = Batches(numbered(1), rule, batch_size=1, generator=generator())
    assert pixels.dtype == torch.float32
    assert pixels.unique().tolist() == [-2.0]


def test_images_of_another_size_are_fitted() -> None:
    rule = InputSpec(image_size=6, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    ((pixels, _),) = Batches(numbered(5), rule, batch_size=5, generator=generator())
    assert pixels.shape == (5, 3, 6, 6)


def epochs(seed: int, number: int) -> list[torch.Tensor]:
    batches = Batches(numbered(20), PLAIN, batch_size=8, generator=generator(seed), crop_padding=2, flip=True)
    return [torch.cat([pixels for pixels, _ in batches]) for _ in range(number)]


def test_a_seed_gives_the_same_epochs_and_every_epoch_is_new() -> None:
    first, second = epochs(1, 2), epochs(1, 2)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not torch.equal(*first)
    assert not torch.equal(first[0], epochs(2, 1)[0])


def test_the_generator_is_all_the_state_even_after_an_epoch_cut_short() -> None:
    whole, short = generator(3), generator(3)
    for _ in Batches(numbered(20), PLAIN, batch_size=4, generator=whole, crop_padding=1):
        pass
    next(iter(Batches(numbered(20), PLAIN, batch_size=4, generator=short, crop_padding=1)))
    assert torch.equal(whole.get_state(), short.get_state())


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    epochs(0, 1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_and_flip_are_torchvisions_on_bytes(padding: int) -> None:
    random = generator(5)
    pixels = torch.randint(0, 256, (12, 3, 6, 7), dtype=torch.uint8, generator=random)
    shifts = torch.randint(2 * padding + 1, (12, 2), generator=random)
    mirrored = torch.arange(12) % 2 == 0
    made = augmented(pixels, shifts, mirrored, padding)
    assert made.is_contiguous()
    for image, (top, left), mirror, result in zip(pixels, shifts.tolist(), mirrored.tolist(), made, strict=True):
        expected = reference.crop(reference.pad(image, [padding] * 4), top, left, 6, 7)
        assert torch.equal(result, reference.horizontal_flip(expected) if mirror else expected)


def test_the_border_is_black_before_normalisation() -> None:
    rule = InputSpec(image_size=4, channels=1, mean=(0.5,), std=(0.5,))
    white = Images(torch.full((64, 1, 4, 4), 255, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    ((pixels, _),) = Batches(white, rule, batch_size=64, generator=generator(), crop_padding=2)
    assert pixels.unique().tolist() == [-1.0, 1.0]


def test_all_shifts_and_both_sides_occur_about_equally() -> None:
    marked = torch.zeros(4000, 1, 3, 3, dtype=torch.uint8)
    marked[:, :, 1, 0] = 255
    rule = InputSpec(image_size=3, channels=1, mean=(0.0,), std=(1.0,))
    images = Images(marked, torch.zeros(4000, dtype=torch.int64))
    ((flipped, _),) = Batches(images, rule, batch_size=4000, generator=generator(), flip=True)
    assert 0.45 < flipped[:, 0, 1, 2].mean() < 0.55
    ((cropped, _),) = Batches(images, rule, batch_size=4000, generator=generator(), crop_padding=1)
    rows = cropped[:, 0].sum(dim=2).mean(dim=0)  # a third of the crops move the mark out, to the left
    assert torch.allclose(rows, torch.full((3,), 2 / 9), atol=0.03)


def test_without_augmentation_images_stay_as_they_are() -> None:
    ((pixels, labels),) = Batches(numbered(3), PLAIN, batch_size=3, generator=generator())
    assert torch.equal(pixels.mul(255).round().long()[:, 0, 0, 0] % 3, labels)


def test_evaluation_keeps_the_order() -> None:
    parts = list(evaluation_batches(numbered(10), PLAIN, batch_size=4))
    assert [len(labels) for _, labels in parts] == [4, 4, 2]
    assert torch.cat([labels for _, labels in parts]).tolist() == [position % 3 for position in range(10)]
    assert torch.cat([pixels[:, 0, 0, 0] for pixels, _ in parts]).mul(255).round().tolist() == list(range(10))


def test_batches_are_normalised_as_single_images_are() -> None:
    rule = InputSpec(image_size=4, channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    images = Images(torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8, generator=generator()), torch.arange(7))
    for batches in (
        Batches(images, rule, batch_size=3, generator=generator()),
        evaluation_batches(images, rule, batch_size=3),
    ):
        for pixels, labels in batches:
            assert torch.equal(pixels, normalise(images.pixels[labels], rule))
