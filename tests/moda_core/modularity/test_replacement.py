import math
from decimal import Decimal

import pytest
import torch

from moda_core.data.dataset import Images
from moda_core.data.images import fit
from moda_core.errors import Cancelled, InvalidInput, NotFound, TrainingFailure
from moda_core.modularity.models import ActivationCounts, ModularModel, TrainedModel
from moda_core.modularity.networks import network, splice
from moda_core.modularity.replacement import learn_adaptation, replace
from moda_core.specs import AdaptationSpec, ArchitectureSpec, InputSpec
from moda_core.training.initial import initial_network


def door(size, channels):
    return InputSpec(image_size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)


def weak_model(labels=("a", "b", "c")):
    architecture = ArchitectureSpec(name="lenet5", classes=len(labels), channels=3, image_size=32, width=0.5)
    return TrainedModel(architecture, labels, door(32, 3), initial_network(architecture, 0).state_dict())


def one_class_model(label="b", *more):
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


def separable(samples=60, classes=3):
    """Logits in which one column is on another scale, as a foreign module's is."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(samples) % classes
    merged = torch.randn(samples, classes, generator=draw) + 3 * torch.nn.functional.one_hot(labels, classes)
    merged[:, 1] = merged[:, 1] * 4 + 7
    return merged, labels


def right(merged, labels, weight, bias):
    return ((merged @ weight.T + bias).argmax(dim=1) == labels).float().mean().item()


def test_splice_puts_the_modules_logit_in_its_place_and_changes_nothing_else():
    weak = torch.arange(6.0).view(2, 3)
    merged = splice(weak, torch.tensor([10.0, 20.0]), 1)
    assert merged.tolist() == [[0, 10, 2], [3, 20, 5]]
    assert weak.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_no_epochs_from_the_identity_is_the_plain_splice():
    weight, bias = learn_adaptation(*separable(), AdaptationSpec(epochs=0))
    assert torch.equal(weight, torch.eye(3))
    assert not bias.any()


@pytest.mark.parametrize("initial", ["identity", "normal"])
def test_the_layer_aligns_what_the_splice_left_apart(initial):
    merged, labels = separable()
    reports = []
    layer = learn_adaptation(merged, labels, AdaptationSpec(initial=initial), progress=reports.append)
    assert right(merged, labels, torch.eye(3), torch.zeros(3)) < 0.5
    assert right(merged, labels, *layer) > 0.9
    assert [report.epoch for report in reports] == list(range(1, 21))
    assert reports[-1].loss < reports[0].loss
    assert reports[0].to_json() == {"epoch": 1, "epochs": 20, "loss": reports[0].loss}


def test_full_batch_descent_equals_the_gradient_written_by_hand():
    merged, labels = separable()
    spec = AdaptationSpec(epochs=5, batch_size=60, learning_rate=0.1)
    inputs = torch.cat([merged, torch.ones(60, 1)], dim=1).double()
    layer = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1).double()
    velocity = torch.zeros_like(layer)
    for epoch in range(5):
        rate = 0.1 * (1 + math.cos(math.pi * epoch / 5)) / 2
        errors = (inputs @ layer.T).softmax(dim=1) - torch.nn.functional.one_hot(labels)
        slope = errors.T @ inputs / 60
        velocity = 0.9 * velocity + slope
        layer -= rate * (slope + 0.9 * velocity)
    weight, bias = learn_adaptation(merged, labels, spec)
    torch.testing.assert_close(torch.cat([weight, bias[:, None]], dim=1).double(), layer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("initial", ["identity", "normal"])
def test_one_seed_gives_one_layer_and_the_global_generator_is_left_alone(initial):
    before = torch.get_rng_state()
    first, same, other = (
        learn_adaptation(*separable(), AdaptationSpec(initial=initial, batch_size=16, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], same[0])
    assert torch.equal(first[1], same[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_cancelling_is_heard_between_epochs():
    reports = []
    with pytest.raises(Cancelled):
        learn_adaptation(*separable(), AdaptationSpec(), progress=reports.append, cancelled=lambda: len(reports) == 2)
    assert len(reports) == 2


def test_logits_that_are_not_finite_end_it():
    merged, labels = separable()
    merged[5, 0] = math.nan
    with pytest.raises(TrainingFailure, match=r"epoch 1 at learning rate 0\.05"):
        learn_adaptation(merged, labels, AdaptationSpec())


def test_a_patched_model_is_the_spliced_branches_and_the_layer_learned_on_them():
    weak, strong, data = weak_model(), one_class_model(), images([0, 1, 2, 1, 0, 2, 1, 1])
    spec = AdaptationSpec(epochs=3)
    found = replace(weak, strong, "b", data, spec)
    assert (found.weak, found.strong, found.label, found.labels) == (weak, strong, "b", ("a", "b", "c"))

    answers = network(found)(*(fit(data.pixels, spec) for spec in network(found).inputs))
    branches = [network(model)(fit(data.pixels, model.input)) for model in (weak, strong)]
    merged = splice(branches[0].detach(), branches[1][:, 0].detach(), 1)
    weight, bias = learn_adaptation(merged, data.labels, spec)
    torch.testing.assert_close(found.weight, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias, bias, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers.detach(), merged @ weight.T + bias, rtol=1e-4, atol=1e-5)


def test_the_branches_stay_as_they_are():
    weak, strong = weak_model(), one_class_model()
    before = [{name: t.clone() for name, t in model.weights.items()} for model in (weak, strong)]
    replace(weak, strong, "b", images([0, 1, 2, 1]), AdaptationSpec(epochs=2))
    for model, weights in zip((weak, strong), before, strict=True):
        assert all(torch.equal(model.weights[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("label", "whose"), [("z", "weak"), ("a", "strong")])
def test_a_class_that_one_model_lacks_is_not_found(label, whose):
    with pytest.raises(NotFound, match=f"class '{label}'; the {whose} model has"):
        replace(weak_model(), one_class_model(), label, images([0, 1, 2]), AdaptationSpec())


@pytest.mark.parametrize(
    ("strong", "labels", "field"),
    [(("b",), [0, 2, 2], "dataset"), (("b", "q"), [0, 1, 2], "strong"), (("b",), [0, 1, 3], "dataset")],
    ids=["data without the class", "a strong model of two classes", "data of other classes"],
)
def test_what_cannot_be_used_is_named_with_its_remedy(strong, labels, field):
    with pytest.raises(InvalidInput) as refusal:
        replace(weak_model(), one_class_model(*strong), "b", images(labels), AdaptationSpec())
    assert refusal.value.field == field
    assert "give" in refusal.value.remedy or "compose" in refusal.value.remedy
