import pytest
import torch

from moda_core.data.dataset import Images
from moda_core.errors import Cancelled
from moda_core.specs import InputSpec
from moda_core.training.evaluation import Accuracy, accuracy, accuracy_per_class, logits


def door(size, channels=1):
    return InputSpec(image_size=size, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)


def grey(values, size=8):
    pixels = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, size, size)
    return Images(pixels.contiguous(), torch.zeros(len(values), dtype=torch.int64))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 512])
def test_logits_come_in_the_order_of_the_images_however_they_are_batched(batch_size):
    def brightness(pixels):
        assert pixels.dtype == torch.uint8
        mean = pixels.double().mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)

    found = logits(brightness, grey([7, 200, 0, 9, 31]), [door(8)], device="cpu", batch_size=batch_size)
    assert found.tolist() == [[v, -v] for v in (7.0, 200.0, 0.0, 9.0, 31.0)]
    assert found.dtype == torch.float32


def test_every_input_gets_the_images_at_its_own_size_and_channels():
    shapes = []

    def two_doors(first, second):
        shapes.append((tuple(first.shape), tuple(second.shape)))
        return torch.zeros(len(first), 2)

    logits(two_doors, grey([1, 2, 3]), [door(8), door(16, 3)], device="cpu", batch_size=2)
    assert shapes == [((2, 1, 8, 8), (2, 3, 16, 16)), ((1, 1, 8, 8), (1, 3, 16, 16))]


def test_cancelling_is_heard_between_batches():
    asked = []

    def network(pixels):
        asked.append(len(pixels))
        return torch.zeros(len(pixels), 2)

    with pytest.raises(Cancelled):
        logits(network, grey([1, 2, 3, 4, 5]), [door(8)], device="cpu", batch_size=2, cancelled=lambda: len(asked) == 2)
    assert asked == [2, 2]


def test_accuracies_counted_by_hand():
    answers = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 4, 3], [0, 0, 1.0]])
    labels = torch.tensor([0, 1, 1, 0])
    assert accuracy(answers, labels) == Accuracy(2, 4)
    assert accuracy_per_class(answers, labels, ["a", "b", "c"]) == {
        "a": Accuracy(1, 2),
        "b": Accuracy(1, 2),
        "c": Accuracy(0, 0),
    }


def test_an_accuracy_is_shown_with_its_n_and_no_image_has_none():
    assert Accuracy(1, 4).to_json() == {"accuracy": 0.25, "n": 4}
    assert Accuracy(0, 0).to_json() == {"accuracy": None, "n": 0}
