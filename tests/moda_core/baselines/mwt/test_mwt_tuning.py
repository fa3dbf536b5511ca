import pytest
from mwt_on_digits import DIGITS, equal, model_and_modules, recipe, right

from moda_core.baselines.mwt.composition import Answering, compose_with_head
from moda_core.baselines.mwt.reuse import sub_task
from moda_core.baselines.mwt.tuning import FineTuningSpec, fine_tune
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, InvalidInput, TrainingFailure


def composed(labels=("3", "7"), seed=0):
    model, modules = model_and_modules()
    return Answering(labels, model.input, compose_with_head(model, modules, labels, seed))


def two_classes():
    return sub_task(DIGITS.train, [3, 7])


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


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"epochs": 21}, {"crop_padding": -1}, {"validation_share": 1.0}, {"learning_rate": 0.0}]
)
def test_a_spec_checks_its_ranges(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        FineTuningSpec(**wrong)
    assert FineTuningSpec.from_json(FineTuningSpec().to_json()) == FineTuningSpec()
