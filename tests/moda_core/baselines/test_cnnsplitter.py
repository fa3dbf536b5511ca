from decimal import Decimal

import pytest
import torch

from moda_core.baselines.cnnsplitter import (
    LogitRange,
    calibrated_scores,
    patched_scores,
    public_range,
    target_range,
)
from moda_core.data.dataset import Images
from moda_core.errors import InvalidInput, NotFound
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.modularity.networks import network
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.training.evaluation import logits
from moda_core.training.initial import initial_network


def door(size, channels):
    return InputSpec(image_size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)


def weak_model(labels=("a", "b", "c")):
    architecture = ArchitectureSpec(name="lenet5", classes=len(labels), channels=3, image_size=32, width=0.5)
    return TrainedModel(architecture, labels, door(32, 3), initial_network(architecture, 0).state_dict())


def module_of(label, *more):
    """A module as it is when its root had no other class and every unit was always active."""
    labels = (label, *more)
    architecture = ArchitectureSpec(name="cnn", classes=len(labels), channels=1, image_size=16)
    counts = ActivationCounts(counts={}, units={}, samples=(1,) * len(labels))
    weights = initial_network(architecture, 1).state_dict()
    return ModularModel(architecture, labels, tuple(range(len(labels))), door(16, 1), weights, counts, Decimal("0.9"))


def images(labels):
    draw = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (len(labels), 3, 20, 20), generator=draw).to(torch.uint8)
    return Images(pixels, torch.tensor(labels))


def module_logits(strong, data):
    return logits(network(strong), data, (strong.input,), device="cpu")[:, 0]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_scores_worked_by_hand_for_any_position(position):
    # Softmax of log(1, 2, 5) is (1, 2, 5) / 8; on the range from -1 to 3 the logits 1, 5 and -3 are 0.5, 1.5 and -0.5.
    weak = torch.tensor([[1.0, 2.0, 5.0]] * 3).log()
    scores = calibrated_scores(weak, torch.tensor([1.0, 5.0, -3.0]), position, LogitRange(-1.0, 3.0))
    wanted = torch.tensor([[0.125, 0.25, 0.625]] * 3)
    wanted[:, position] = torch.tensor([0.5, 1.5, -0.5])
    torch.testing.assert_close(scores, wanted)


def test_the_largest_score_is_the_answer_and_the_module_may_win_or_lose():
    weak = torch.tensor([[1.0, 2.0, 5.0]] * 3).log()
    scores = calibrated_scores(weak, torch.tensor([1.0, 5.0, -3.0]), 0, LogitRange(-1.0, 3.0))
    assert scores.argmax(dim=1).tolist() == [2, 0, 2]


def test_the_two_forms_take_the_range_over_other_samples():
    strong, data = module_of("b"), images([0, 2] * 4)
    answers = module_logits(strong, data)
    data.labels[answers.argsort()[2:5]] = 1  # neither the least nor the greatest, whatever this processor draws
    own, public = target_range(strong, "b", data, 1), public_range(strong, "b", data)
    chosen = answers[data.labels == 1]
    assert (own.low, own.high) == pytest.approx((float(chosen.min()), float(chosen.max())), rel=1e-5)
    assert (public.low, public.high) == (float(answers.min()), float(answers.max()))
    assert public.low < own.low < own.high < public.high
    assert public.to_json() == {"low": public.low, "high": public.high}


@pytest.mark.parametrize(("label", "position"), [("a", 0), ("c", 2)])
def test_a_patched_model_is_the_weak_ones_softmax_and_the_modules_calibrated_logit(label, position):
    weak, strong, data = weak_model(), module_of(label), images([0, 1, 2, 1, 0, 2])
    found = patched_scores(weak, strong, label, LogitRange(-0.5, 0.25), data)
    others = [place for place in range(3) if place != position]
    probabilities = logits(network(weak), data, (weak.input,), device="cpu").softmax(dim=1)
    assert torch.equal(found[:, others], probabilities[:, others])
    torch.testing.assert_close(found[:, position], (module_logits(strong, data) + 0.5) / 0.75)


@pytest.mark.parametrize("high", [1.0, 0.5, float("nan")])
def test_a_range_without_anything_in_it_is_refused(high):
    with pytest.raises(InvalidInput, match="the same for all samples"):
        LogitRange(1.0, high)


def test_one_sample_has_no_range():
    with pytest.raises(InvalidInput, match="two or more samples"):
        target_range(module_of("b"), "b", images([0, 1, 2]), 1)


def test_what_cannot_be_patched_says_why():
    data = images([0, 2, 2])
    with pytest.raises(InvalidInput, match="no image of the class"):
        target_range(module_of("b"), "b", data, 1)
    with pytest.raises(InvalidInput, match="more than one class"):
        public_range(module_of("b", "c"), "b", data)
    with pytest.raises(NotFound, match="the strong model has b"):
        public_range(module_of("b"), "c", data)
    with pytest.raises(NotFound, match="the weak model has a, b, c"):
        patched_scores(weak_model(), module_of("d"), "d", LogitRange(0.0, 1.0), data)
