import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moda_core.data.dataset import Dataset, Images, split, subset
from moda_core.errors import InvalidInput


def images(labels: list[int], channels: int = 1, side: int = 2) -> Images:
    """One image per label, its pixels telling its position."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, side, side)
    return Images(pixels.contiguous(), torch.tensor(labels, dtype=torch.int64))


def positions(part: Images) -> list[int]:
    return part.pixels[:, 0, 0, 0].tolist()


def test_a_data_set_needs_two_classes() -> None:
    with pytest.raises(InvalidInput, match="fewer than 2 classes"):
        Dataset(("cat",), images([0]), images([0]), mirror=True)


@pytest.mark.parametrize(("train", "test", "part"), [([0, 0], [0, 1], "training"), ([0, 1], [1], "test")])
def test_every_class_needs_an_image_in_both_parts(train: list[int], test: list[int], part: str) -> None:
    with pytest.raises(InvalidInput, match=f"classes with no {part} image"):
        Dataset(("cat", "dog"), images(train), images(test), mirror=True)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_must_name_classes(label: int) -> None:
    with pytest.raises(InvalidInput, match="give labels from 0 to 1"):
        Dataset(("cat", "dog"), images([0, 1, label]), images([0, 1]), mirror=True)


def test_classes_are_named_once() -> None:
    with pytest.raises(InvalidInput, match="named twice"):
        Dataset(("cat", "cat"), images([0, 1]), images([0, 1]), mirror=True)


def test_both_parts_have_one_shape() -> None:
    with pytest.raises(InvalidInput, match="differ in shape"):
        Dataset(("cat", "dog"), images([0, 1]), images([0, 1], side=3), mirror=True)


@pytest.mark.parametrize(
    ("pixels", "labels", "field"),
    [
        (torch.zeros(1, 2, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), "pixels"),
        (torch.zeros(1, 1, 0, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), "pixels"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), "labels"),
    ],
)
def test_images_are_stacks_with_a_label_each(pixels: torch.Tensor, labels: torch.Tensor, field: str) -> None:
    with pytest.raises((InvalidInput, TypeError), match=field):
        Images(pixels, labels)


def test_the_input_rule_is_mean_and_deviation_of_the_training_pixels() -> None:
    torch.manual_seed(0)
    train = Images(torch.randint(0, 256, (1100, 3, 4, 5), dtype=torch.uint8), torch.arange(1100) % 2)
    spec = Dataset(("a", "b"), train, train, mirror=True).input_spec(32)
    scaled = train.pixels.double() / 255
    assert (spec.image_size, spec.channels) == (32, 3)
    assert spec.mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
    assert spec.std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_the_input_rule_of_grey_images_for_a_colour_network_repeats_theirs() -> None:
    data = Dataset(("a", "b"), images([0, 1]), images([0, 1]), mirror=True)
    grey, colour = data.input_spec(8), data.input_spec(8, channels=3)
    assert colour.mean == grey.mean * 3
    assert colour.std == grey.std * 3


def test_a_constant_channel_has_a_usable_deviation() -> None:
    black = Images(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    assert Dataset(("a", "b"), black, black, mirror=True).input_spec(8).std[0] > 0


LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(LABELS, st.floats(0.01, 1.0), st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_a_subset_is_stratified_and_in_order(labels: list[int], fraction: float, seed: int) -> None:
    part = subset(images(labels), fraction, seed)
    assert positions(part) == sorted(positions(part))
    for label in set(labels):
        assert part.labels.tolist().count(label) == max(1, round(fraction * labels.count(label)))
    assert all(labels[position] == label for position, label in zip(positions(part), part.labels.tolist(), strict=True))


@given(LABELS, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
@settings(deadline=None)
def test_a_smaller_fraction_is_part_of_a_larger_one(labels: list[int], one: float, other: float) -> None:
    small, large = (set(positions(subset(images(labels), share, 7))) for share in sorted((one, other)))
    assert small <= large


def test_the_whole_is_a_subset_and_seeds_differ() -> None:
    whole = images([0, 1] * 30)
    assert positions(subset(whole, 1.0, 0)) == list(range(60))
    assert positions(subset(whole, 0.3, 0)) == positions(subset(whole, 0.3, 0)) != positions(subset(whole, 0.3, 1))


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.1])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidInput, match="fraction"):
        subset(images([0, 1]), fraction, 0)


@given(LABELS, st.integers(0, 100))
@settings(deadline=None)
def test_a_split_shares_out_every_image_and_every_class_that_has_two(labels: list[int], seed: int) -> None:
    train, test = split(images(labels), 0.2, seed)
    assert sorted(positions(train) + positions(test)) == list(range(len(labels)))
    for label in set(labels):
        if labels.count(label) > 1:
            assert label in train.labels.tolist()
            assert label in test.labels.tolist()


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    split(subset(images([0, 1] * 9), 0.5, 3), 0.2, 3)
    assert torch.equal(torch.get_rng_state(), before)
