"""Test images class by class, against a loop over single images."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.models.evaluation import Evaluation
from moda_core.data.dataset import Images
from moda_core.data.images import normalise
from moda_core.specs import InputSpec

RULE = InputSpec(image_size=8, channels=1, mean=(0.5,), std=(0.25,))


def images(labels: list[int]) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (len(labels), 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.tensor(labels))


def linear(outputs: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, outputs)).eval()


def test_right_answers_are_those_of_a_loop_over_single_images() -> None:
    some = images([2, 0, 1, 2, 2, 0, 3, 1, 0, 2])
    network, labels = linear(2), [0, 2]
    right = 0
    for pixels, label in zip(some.pixels, some.labels.tolist(), strict=True):
        if label in labels:
            right += labels[int(network(normalise(pixels[None], RULE)).argmax())] == label
    evaluation = Evaluation(some, RULE, 4)
    evaluation.batch_size = 3
    assert evaluation.correct(network, labels) == {"correct": right, "n": 7}


def test_within_some_classes_the_best_of_their_logits_counts() -> None:
    some = images([0, 1, 2, 2])
    logits = torch.tensor([[1.0, 2.0, 9.0], [0.0, 3.0, 9.0], [5.0, 9.0, 6.0], [7.0, 9.0, 6.0]])
    evaluation = Evaluation(some, RULE, 3)
    assert evaluation.correct_within(logits, [0, 2]) == {"correct": 1, "n": 3}
    assert evaluation.correct_within(logits, [0, 1]) == {"correct": 1, "n": 2}
    assert evaluation.correct_within(logits, [0, 1, 2]) == {"correct": 0, "n": 4}


def test_logits_of_all_images_come_class_by_class() -> None:
    some = images([1, 0, 1])
    network = linear(2)
    expected = torch.cat([network(normalise(some.pixels[place][None], RULE)) for place in (1, 0, 2)])
    assert torch.allclose(Evaluation(some, RULE, 2).logits(network), expected)


def test_the_first_images_of_each_class_are_taken_and_n_says_so() -> None:
    some = images([0, 1, 0, 0, 1, 2])
    seen: list[Tensor] = []

    def network(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return torch.zeros(len(pixels), 3)

    evaluation = Evaluation(some, RULE, 3, per_class=2)
    assert evaluation.correct(network, [0, 1, 2]) == {"correct": 2, "n": 5}
    assert torch.equal(torch.cat(seen), normalise(some.pixels[[0, 2, 1, 4, 5]], RULE))
    assert evaluation.numbers == [2, 2, 1]
