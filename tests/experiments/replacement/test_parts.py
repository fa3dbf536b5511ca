import pytest
import torch

from experiments.replacement.parts import strong_part, strong_spec, targets, weak_part, weak_spec
from moda_core.data.dataset import Dataset, Images


def ten_classes(train=40, test=3):
    """Every pixel of an image is its class, so that a relabelled image can be told."""
    parts = []
    for each in (train, test):
        labels = torch.arange(10).repeat(each)
        pixels = labels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
        parts.append(Images(pixels, labels))
    return Dataset(tuple("abcdefghij"), *parts, mirror=True)


def classes_by_pixel(dataset, images):
    """The original class of every label that occurs, read from the pixels."""
    return {
        label: {int(value) for value in images.pixels[images.labels == label].unique()}
        for label in range(len(dataset.classes))
    }


def test_the_strong_model_knows_the_first_half():
    part = strong_part(ten_classes(), seed=0)
    assert part.dataset.classes == ("a", "b", "c", "d", "e") == targets(tuple("abcdefghij"))
    for images in (part.dataset.train, part.dataset.test, part.validation):
        assert classes_by_pixel(part.dataset, images) == {label: {label} for label in range(5)}


def test_a_tenth_of_every_strong_class_is_held_out_from_training_only():
    part = strong_part(ten_classes(), seed=0)
    assert part.validation.per_class(5).tolist() == [4] * 5
    assert part.dataset.train.per_class(5).tolist() == [36] * 5
    assert part.dataset.test.per_class(5).tolist() == [3] * 5


def test_no_held_out_image_is_trained_on():
    whole = ten_classes()
    for number, pixels in enumerate(whole.train.pixels):
        pixels[:, 0, 0] = number % 256
        pixels[:, 0, 1] = number // 256
    part = strong_part(whole, seed=3)
    seen, held_out = (
        {tuple(image[0, 0, :2].tolist()) for image in images.pixels} for images in (part.dataset.train, part.validation)
    )
    assert not seen & held_out
    assert len(seen) + len(held_out) == 200


def test_another_seed_holds_out_other_images():
    whole = ten_classes()
    whole.train.pixels[:] = torch.randint(0, 256, whole.train.pixels.shape, dtype=torch.uint8)
    assert strong_part(whole, 0).digest == strong_part(whole, 0).digest != strong_part(whole, 1).digest


def test_the_weak_model_knows_the_second_half_and_the_target_which_is_last():
    part = weak_part(ten_classes(), "c")
    assert part.dataset.classes == ("f", "g", "h", "i", "j", "c")
    for images in (part.dataset.train, part.dataset.test):
        assert classes_by_pixel(part.dataset, images) == {0: {5}, 1: {6}, 2: {7}, 3: {8}, 4: {9}, 5: {2}}
    assert part.dataset.train.per_class(6).tolist() == [40] * 6


def test_the_overfitted_model_sees_a_tenth_of_the_images_as_they_are_for_all_epochs():
    spec = weak_spec(weak_part(ten_classes(), "a"), "overfitted", 200, seed=4)
    assert (spec.architecture, spec.objective, spec.seed) == ("lenet5", "standard", 4)
    assert (spec.fraction, spec.epochs) == (0.1, 200)
    assert (spec.crop_padding, spec.flip, spec.weight_decay) == (0, False, 0.0)


@pytest.mark.parametrize(("epochs", "expected"), [(200, 10), (40, 2), (1, 1)])
def test_the_underfitted_model_sees_all_images_for_a_twentieth_of_the_epochs(epochs, expected):
    spec = weak_spec(weak_part(ten_classes(), "a"), "underfitted", epochs, seed=0)
    assert (spec.fraction, spec.epochs, spec.crop_padding, spec.flip) == (1.0, expected, 4, None)


def test_strong_models_differ_by_objective_alone():
    part = strong_part(ten_classes(), 0)
    modular, standard = (
        strong_spec(part, "vgg16", 0.5, 30, 1, objective).to_json() for objective in ("modular", "standard")
    )
    assert {key for key in modular if modular[key] != standard[key]} == {"objective"}
    assert (modular["architecture"], modular["width"], modular["epochs"]) == ("vgg16", 0.5, 30)
