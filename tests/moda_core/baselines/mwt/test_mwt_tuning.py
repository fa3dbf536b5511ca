import pytest
import torch

from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.composition import Answering, compose_mwt, compose_with_head, mwt_size, whole_mwt
from moda_core.baselines.mwt.measures import coupling, kernel_retention, parameter_measures
from moda_core.baselines.mwt.modules import Augmentation, ModuleMasks, count_masks, module_masks
from moda_core.baselines.mwt.training import MwtSpec, initial_mwt, mwt_model, train_mwt
from moda_core.baselines.mwt.tuning import FineTuningSpec, fine_tune, reuse_fine_tuned, sub_task
from moda_core.data.dataset import Images
from moda_core.data.digits import load_digits
from moda_core.errors import Cancelled, InvalidInput, TrainingFailure
from moda_core.training.evaluation import accuracy, logits

DIGITS = load_digits()
LABELS = DIGITS.classes


def model_and_modules(name="cnn", width=0.5):
    """Random weights, and modules that keep about half of the kernels."""
    spec = complete(name, classes=10, channels=1, width=width, image_size=8)
    network, draw = initial_mwt(spec, 0), torch.Generator().manual_seed(0)
    masks = {
        label: {layer.name: torch.rand(layer.units, generator=draw) < 0.5 for layer in network.graph.layers}
        for label in LABELS
    }
    model = mwt_model(network, spec, LABELS, DIGITS.input_spec(8))
    return model, ModuleMasks(masks, {label: {} for label in LABELS})


def recipe(**changes):
    return FineTuningSpec(**{"crop_padding": 0, "batch_size": 32} | changes)


def composed(labels=("3", "7"), seed=0):
    model, modules = model_and_modules()
    return Answering(labels, model.input, compose_with_head(model, modules, labels, seed))


def two_classes():
    return sub_task(DIGITS.train, [3, 7])


def right(network, images):
    return accuracy(logits(network, images, network.inputs, device="cpu"), images.labels)


def equal(first, second):
    states = second.state_dict()
    return all(torch.equal(tensor, states[name]) for name, tensor in first.state_dict().items())


def test_a_sub_task_has_its_own_labels():
    images = Images(torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1), torch.tensor([0, 1, 2, 3, 2, 1]))
    found = sub_task(images, [1, 2])
    assert found.pixels.flatten().tolist() == [1, 2, 4, 5]
    assert found.labels.tolist() == [0, 1, 1, 0]


def test_a_network_is_fine_tuned_and_goes_back_to_its_best_epoch():
    """Validation labels are the wrong ones, so the better it learns the worse it gets there: the last epoch is no best.

    The rate does not know how many epochs there will be, so the best epoch is the end of a shorter run.
    """
    training = two_classes()
    wrong = Images(training.pixels[:60], 1 - training.labels[:60])
    found = fine_tune(composed(), training, wrong, recipe(epochs=4), mirror=False)
    correct = [report.validation.correct for report in found.history]
    assert correct[-1] < max(correct)
    assert found.epoch == 1 + correct.index(max(correct)) < 4
    assert found.history[-1].accuracy > 0.9
    assert right(found.network, wrong) == found.history[found.epoch - 1].validation
    shorter = fine_tune(composed(), training, wrong, recipe(epochs=found.epoch), mirror=False)
    assert equal(found.network, shorter.network)
    assert not any(part.training for part in found.network.modules())


def test_the_first_of_equal_epochs_counts():
    training = two_classes()
    found = fine_tune(composed(), training, training, recipe(epochs=8), mirror=False)
    correct = [report.validation.correct for report in found.history]
    assert correct.count(max(correct)) > 1
    assert found.epoch == 1 + correct.index(max(correct))
    assert found.history[0].to_json()["validation"] == {"correct": correct[0], "n": len(training)}


def test_one_seed_gives_one_network_and_every_parameter_learns():
    model, modules = model_and_modules("mobilenet", 0.03)
    before = torch.get_rng_state()
    tuned = [
        reuse_fine_tuned(model, modules, ["7", "3"], DIGITS.train, recipe(epochs=1, seed=seed), mirror=False)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(tuned[0].network, tuned[1].network)
    assert not equal(tuned[0].network, tuned[2].network)
    assert tuned[0].network.labels == ("3", "7")
    begun = compose_with_head(model, modules, ["3", "7"], 0).state_dict()
    found = tuned[0].network.body.state_dict()
    assert begun.keys() == found.keys()
    moved = [name for name, tensor in found.items() if not torch.equal(tensor, begun[name])]
    assert len(moved) > 0.9 * len(found)


def test_generators_may_be_kept_and_trained_too():
    model, modules = model_and_modules()
    tuned = reuse_fine_tuned(
        model, modules, ["3", "7"], DIGITS.train, recipe(epochs=2), mirror=False, keep_generators=True
    )
    begun = compose_with_head(model, modules, ["3", "7"], 0, keep_generators=True).state_dict()
    generators = [name for name in begun if "generators" in name]
    assert generators
    found = tuned.network.body.state_dict()
    assert any(not torch.equal(found[name], begun[name]) for name in generators)


def test_a_loss_that_is_not_finite_leaves_the_best_epoch_or_an_error():
    training, network = two_classes(), composed()
    with pytest.raises(TrainingFailure, match=r"first epoch at learning rate 1000"):
        fine_tune(composed(), training, training, recipe(learning_rate=1000.0, momentum=0.0), mirror=False)

    def spoil(report):
        if report.epoch == 2:
            network.body[2].weight.data.fill_(float("nan"))

    found = fine_tune(network, training, training, recipe(), mirror=False, progress=spoil)
    assert len(found.history) == 2
    assert right(found.network, training) == found.history[found.epoch - 1].validation


def test_it_can_be_cancelled():
    with pytest.raises(Cancelled):
        fine_tune(composed(), two_classes(), two_classes(), recipe(), mirror=False, cancelled=lambda: True)


def test_one_class_alone_cannot_be_learned():
    with pytest.raises(InvalidInput, match="give two or more"):
        reuse_fine_tuned(*model_and_modules(), ["3"], DIGITS.train, recipe(), mirror=False)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"epochs": 21}, {"crop_padding": -1}, {"validation_share": 1.0}, {"learning_rate": 0.0}]
)
def test_a_spec_checks_its_ranges(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        FineTuningSpec(**wrong)
    assert FineTuningSpec.from_json(FineTuningSpec().to_json()) == FineTuningSpec()


def test_mwt_from_end_to_end_on_digits():
    spec = MwtSpec(dataset="digits", architecture="resnet18", width=0.125, epochs=6, batch_size=64, crop_padding=1)
    shape = complete("resnet18", classes=10, channels=1, width=spec.width, image_size=8)
    network, rule = initial_mwt(shape, spec.seed), DIGITS.input_spec(8)
    reports = train_mwt(network, DIGITS.train, spec, rule, mirror=DIGITS.mirror, device="cpu")
    assert reports[-1].terms["coupling"] < reports[0].terms["coupling"] - 0.02
    model = mwt_model(network, shape, LABELS, rule)
    assert right(whole_mwt(model), DIGITS.test).share > 0.8

    modules = module_masks(count_masks(model, DIGITS.train, Augmentation(crop_padding=1)))
    assert all(0 < share <= 1 for share in kernel_retention(modules).values())
    assert 0 < coupling(modules) <= 1
    assert 0 < parameter_measures(model, modules).mean_size < 1

    pair = ("3", "7")
    test = sub_task(DIGITS.test, [3, 7])
    size = mwt_size(model, modules, pair, head=True)
    assert size.kept_parameters <= size.original_parameters + 22
    tuned = reuse_fine_tuned(model, modules, pair, DIGITS.train, recipe(epochs=3), mirror=DIGITS.mirror)
    plain = right(compose_mwt(model, modules, pair), test).share
    soft = right(compose_mwt(model, modules, pair, keep_generators=True), test).share
    assert plain < 0.9 < min(soft, right(tuned.network, test).share), "without its masks the network was as good"
