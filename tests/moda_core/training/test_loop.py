import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, Corrupt, InvalidInput, TrainingFailure, Untraceable
from moda_core.specs import InputSpec, TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.checkpoints import Checkpoint
from moda_core.training.criteria import Evaluated
from moda_core.training.execution import Execution
from moda_core.training.loop import descend, train
from moda_core.training.run import STEPS_BETWEEN_CHECKS, learning_rate

DOOR = InputSpec(image_size=8, channels=1, mean=(0.5,), std=(0.25,))


def images(samples=41):
    """Three classes of noise, each brighter in another third of the picture."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % 3
    pixels = torch.randint(0, 128, (samples, 1, 8, 8), generator=draw)
    for sample, label in enumerate(labels):
        pixels[sample, :, 3 * label : 3 * label + 2] += 127
    return Images(pixels.to(torch.uint8), labels)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(6 * 4 * 4, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )


def spec(**changes):
    recipe = {"dataset": "noise", "architecture": "cnn", "epochs": 4, "batch_size": 8, "crop_padding": 1}
    return TrainingSpec(**recipe | changes)


def run(model, recipe, data=None, **options):
    graph = UnitGraph.trace(network(), (1, 8, 8))
    return train(model, graph, data or images(), recipe, DOOR, mirror=False, device="cpu", **options)


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


class Kept:
    """Checkpoints in memory."""

    def __init__(self):
        self.saved = []

    def load(self):
        return self.saved[-1] if self.saved else None

    def save(self, checkpoint):
        self.saved.append(checkpoint)


def untimed(reports):
    clocks = ("samples_per_s", "seconds", "remaining_s")
    return [{name: value for name, value in r.to_json().items() if name not in clocks} for r in reports]


@pytest.mark.parametrize("objective", ["modular", "standard"])
def test_it_learns(objective):
    model = network()
    reports = run(model, spec(objective=objective, epochs=12, crop_padding=0))
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].accuracy > 0.8
    assert not any(module.training for module in model.modules())


def test_the_loss_is_equation_7():
    for report in run(network(), spec(alpha=0.5, beta=2.0, gamma=0.25)):
        affinity, dispersion, compactness = (report.terms[t] for t in ("affinity", "dispersion", "compactness"))
        parts = report.cross_entropy + 0.5 * affinity + 2.0 * dispersion + 0.25 * compactness
        assert report.loss == pytest.approx(parts, rel=1e-5)
        assert min(affinity, dispersion, compactness) > 0


def test_the_standard_objective_is_cross_entropy_alone_and_needs_no_graph():
    reports = train(network(), None, images(), spec(objective="standard", epochs=2), DOOR, mirror=False, device="cpu")
    assert [report.terms for report in reports] == [{}, {}]
    assert all(report.loss == report.cross_entropy for report in reports)


def test_compactness_quiets_the_units():
    quiet, loud = (run(network(), spec(alpha=0.0, beta=0.0, gamma=gamma, epochs=6))[-1] for gamma in (20.0, 0.0))
    assert quiet.terms["compactness"] < 0.5 * loud.terms["compactness"]


def test_a_full_batch_step_is_nesterov_descent_as_written_by_hand():
    recipe = spec(objective="standard", epochs=3, batch_size=64, crop_padding=0, weight_decay=0.01, learning_rate=0.1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    weights = [p.detach().clone().double() for p in model.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    data = images()
    pixels = ((data.pixels.double() / 255 - 0.5) / 0.25).flatten(1)
    for epoch in range(3):
        leaves = [w.clone().requires_grad_() for w in weights]
        loss = nn.functional.cross_entropy(pixels @ leaves[0].T + leaves[1], data.labels)
        for i, gradient in enumerate(torch.autograd.grad(loss, leaves)):
            slope = gradient + 0.01 * weights[i]
            velocity[i] = 0.9 * velocity[i] + slope
            weights[i] = weights[i] - learning_rate(recipe, epoch) * (slope + 0.9 * velocity[i])
    train(model, None, data, recipe, DOOR, mirror=False, device="cpu")
    for found, wanted in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(found.detach().double(), wanted, rtol=1e-4, atol=1e-5)


def test_the_rate_falls_along_half_a_cosine():
    recipe = spec(epochs=10, learning_rate=0.05)
    rates = [learning_rate(recipe, epoch) for epoch in range(10)]
    assert rates[0] == 0.05
    assert rates[5] == pytest.approx(0.025)
    assert all(a > b > 0 for a, b in itertools.pairwise(rates))
    assert [report.learning_rate for report in run(network(), recipe)] == rates


def test_one_seed_gives_one_result_and_another_seed_another():
    trained = []
    for seed in (3, 3, 4):
        model = network()
        torch.rand(seed)  # what the process drew before must not matter
        run(model, spec(seed=seed))
        trained.append(model.state_dict())
    assert equal(trained[0], trained[1])
    assert not equal(trained[0], trained[2])


class Interruption(Exception):
    """The process dies."""


def die_after(epochs):
    def progress(report):
        if report.epoch == epochs:
            raise Interruption

    return progress


@pytest.mark.parametrize("changes", [{}, {"objective": "standard"}, {"momentum": 0.0}])
@pytest.mark.parametrize("interruption", ["cancelled", "died"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(interruption, changes):
    recipe = spec(**changes)
    whole = Kept()
    expected = run(network(), recipe, checkpoints=whole)

    kept = Kept()
    if interruption == "cancelled":
        answers = itertools.chain([False] * 12, itertools.repeat(True))  # five steps an epoch
        with pytest.raises(Cancelled):
            run(network(), recipe, checkpoints=kept, cancelled=lambda: next(answers))
    else:
        with pytest.raises(Interruption):
            run(network(), recipe, checkpoints=kept, progress=die_after(2))
    assert [checkpoint.epoch for checkpoint in kept.saved] == [1, 2]
    other_start = network()
    nn.init.ones_(other_start[0].weight)
    heard = []
    found = run(other_start, recipe, checkpoints=kept, progress=heard.append)

    assert equal(kept.saved[-1].tensors, whole.saved[-1].tensors)
    assert untimed(found) == untimed(expected)
    assert [report.epoch for report in heard] == [3, 4]


RARELY = Execution(seconds_between_checkpoints=1e9)


def test_epochs_that_follow_too_soon_are_not_saved_but_for_the_last():
    kept, often = Kept(), Kept()
    run(network(), spec(), checkpoints=kept, execution=RARELY)
    run(network(), spec(), checkpoints=often)
    assert [checkpoint.epoch for checkpoint in kept.saved] == [4]
    assert equal(kept.saved[0].tensors, often.saved[-1].tensors)


def test_the_time_between_checkpoints_runs_from_one_save_to_the_next(monkeypatch):
    kept, clock = Kept(), itertools.count(0.0, 20.0)  # read at the start, after an epoch, after a save
    monkeypatch.setattr("moda_core.training.run.time.monotonic", lambda: next(clock))
    execution = Execution(seconds_between_checkpoints=30.0)
    run(network(), spec(epochs=7), checkpoints=kept, execution=execution)
    assert [checkpoint.epoch for checkpoint in kept.saved] == [2, 4, 6, 7]


@pytest.mark.parametrize("first", [RARELY, Execution()])
def test_a_cancelled_run_leaves_its_last_whole_epoch_once(first):
    kept, often = Kept(), Kept()
    run(network(), spec(epochs=4), checkpoints=often)
    answers = itertools.chain([False] * 12, itertools.repeat(True))  # five steps an epoch
    with pytest.raises(Cancelled):
        run(network(), spec(), checkpoints=kept, execution=first, cancelled=lambda: next(answers))
    assert kept.saved[-1].epoch == 2
    assert equal(kept.saved[-1].tensors, often.saved[1].tensors)
    saved = len(kept.saved)
    with pytest.raises(Cancelled):  # nothing new
        run(network(), spec(), checkpoints=kept, execution=RARELY, cancelled=lambda: True)
    assert len(kept.saved) == saved


def test_a_run_that_is_cancelled_in_its_first_epoch_leaves_nothing():
    kept = Kept()
    with pytest.raises(Cancelled):
        run(network(), spec(), checkpoints=kept, execution=RARELY, cancelled=lambda: True)
    assert kept.saved == []


def test_a_run_that_fails_leaves_its_last_whole_epoch():
    kept, model = Kept(), network()
    steps = itertools.count()
    model[-1].weight.register_hook(lambda gradient: gradient * (math.inf if next(steps) == 12 else 1.0))
    with pytest.raises(TrainingFailure, match="epoch 3"):
        run(model, spec(), checkpoints=kept, execution=RARELY)
    assert [checkpoint.epoch for checkpoint in kept.saved] == [2]
    assert all(tensor.isfinite().all() for tensor in kept.saved[0].tensors.values() if tensor.is_floating_point())


def test_a_finished_run_is_only_loaded():
    kept = Kept()
    model = network()
    expected = run(model, spec(), checkpoints=kept)
    again = network()
    assert run(again, spec(), checkpoints=kept, cancelled=lambda: True) == expected
    assert equal(again.state_dict(), model.state_dict())
    assert len(kept.saved) == 4


def test_a_checkpoint_holds_weights_momentum_and_generators_apart_from_the_model():
    kept = Kept()
    model = network()
    run(model, spec(epochs=2), checkpoints=kept)
    names = {name.split("/")[0] for name in kept.saved[0].tensors}
    assert names == {"weights", "momentum", "generator"}
    assert not torch.equal(kept.saved[0].tensors["weights/0.weight"], model[0].weight)
    assert all(t.device.type == "cpu" and t.is_contiguous() for t in kept.saved[0].tensors.values())
    states = [t for name, t in kept.saved[0].tensors.items() if name.startswith("generator/")]
    assert {state.dtype for state in states} == {torch.uint8}


def test_another_specs_checkpoint_is_refused():
    kept = Kept()
    run(network(), spec(epochs=1), checkpoints=kept)
    with pytest.raises(Conflict):
        run(network(), spec(epochs=1, seed=9), checkpoints=kept)


@pytest.mark.parametrize("name", ["weights/0.weight", "momentum/0.weight", "generator/batches"])
def test_a_checkpoint_that_does_not_fit_is_corrupt(name):
    kept = Kept()
    run(network(), spec(epochs=1), checkpoints=kept)
    good = kept.saved[0]
    kept.saved = [Checkpoint(good.epoch, {**good.tensors, name: torch.zeros(2)}, good.state)]
    with pytest.raises(Corrupt):
        run(network(), spec(epochs=1), checkpoints=kept)


def _kept_without(prefix, some=None, **changes):
    kept = Kept()
    run(network(), spec(epochs=2, **changes), checkpoints=kept)
    good = kept.saved[0]
    gone = [name for name in good.tensors if name.startswith(prefix)][:some]
    tensors = {name: tensor for name, tensor in good.tensors.items() if name not in gone}
    kept.saved = [Checkpoint(good.epoch, tensors, good.state)]
    return kept, len(gone)


@pytest.mark.parametrize(("prefix", "some"), [("momentum/", 1), ("momentum/", None), ("generator/batches", 1)])
def test_a_checkpoint_that_lacks_a_part_is_corrupt(prefix, some):
    kept, gone = _kept_without(prefix, some)
    assert gone > 0
    with pytest.raises(Corrupt, match="momentum" if prefix == "momentum/" else "batches"):
        run(network(), spec(epochs=2), checkpoints=kept)


def test_a_descent_without_momentum_needs_none_in_its_checkpoint():
    kept, gone = _kept_without("momentum/", momentum=0.0)
    assert gone == 0
    run(network(), spec(epochs=2, momentum=0.0), checkpoints=kept)


def test_a_parameter_that_is_not_trained_has_no_momentum():
    kept = Kept()
    for _ in range(2):
        model = network()
        model[0].requires_grad_(False)
        run(model, spec(epochs=1), checkpoints=kept)
    assert "momentum/0.weight" not in kept.saved[0].tensors


def test_a_checkpoint_of_more_processes_is_refused():
    kept = Kept()
    run(network(), spec(epochs=1), checkpoints=kept)
    good = kept.saved[0]
    assert good.state["world"] == 1
    kept.saved = [Checkpoint(good.epoch, good.tensors, {**good.state, "world": 4})]
    with pytest.raises(Conflict, match="of 4 processes"):
        run(network(), spec(epochs=1), checkpoints=kept)
    without = {name: value for name, value in good.state.items() if name != "world"}
    kept.saved = [Checkpoint(good.epoch, good.tensors, without)]
    run(network(), spec(epochs=1), checkpoints=kept)


def poison(model):
    def progress(report):
        nn.init.constant_(model[0].weight, math.nan)

    return progress


def test_a_loss_that_is_not_finite_ends_it_and_leaves_the_last_good_checkpoint():
    kept, model, recipe = Kept(), network(), spec()
    with pytest.raises(TrainingFailure) as failure:
        run(model, recipe, checkpoints=kept, progress=poison(model))
    assert "epoch 2" in str(failure.value)
    assert f"{learning_rate(recipe, 1):g}" in str(failure.value)
    assert "the weights '0.weight', before the first step" in str(failure.value)
    assert [checkpoint.epoch for checkpoint in kept.saved] == [1]


def test_weights_that_the_last_step_broke_are_not_saved():
    kept, model = Kept(), network()
    model[-1].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingFailure, match=r"the gradient of '8\.weight', in step 1"):
        run(model, spec(batch_size=64), checkpoints=kept)
    assert not kept.saved


def test_an_update_that_overflows_names_its_weights():
    with pytest.raises(TrainingFailure, match=r"the weights '0\.weight' after the update, in step 1"):
        run(overflowing(network()), spec(batch_size=64, learning_rate=1e3, objective="standard"))


def test_a_buffer_that_the_forward_pass_broke_is_named():
    model = network()  # whose outputs stay finite: what is divided by infinity is none
    nn.init.constant_(model[0].weight, 1e25)
    with pytest.raises(TrainingFailure, match=r"buffers .* the buffer '1\.running_var' after the update, in step 1"):
        run(model, spec(objective="standard"))


def overflowing(model):
    """Its first convolution's gradient is finite, but not times a learning rate of 1000."""
    model[0].weight.register_hook(lambda gradient: torch.full_like(gradient, 1e37))
    return model


class Fragile(nn.Module):
    """Passes everything on but a batch with a white image in it."""

    def forward(self, x):
        return x / (x.flatten(1).amin(1).max() < 1.0)


class Stepwise:
    """Sees which batch has the white image, and learns nothing."""

    terms = ()

    def __init__(self):
        self.seen = 0

    def __call__(self, pixels, labels):
        self.seen += 1
        if pixels.flatten(1).amin(1).max() >= 1.0:
            self.white = self.seen
            raise Interruption
        loss = torch.zeros((), requires_grad=True)
        return Evaluated(torch.zeros(len(labels), 3), loss, loss, torch.zeros(0))


def test_the_layer_and_the_step_that_broke_are_named_though_nothing_was_watched_then():
    data = images()
    data.pixels[7] = 255
    model, steps = nn.Sequential(Fragile(), network()), []
    recipe = spec(objective="standard", crop_padding=0)
    with pytest.raises(TrainingFailure, match=r"the output of layer '0', in step (\d)") as failure:
        train(model, None, data, recipe, DOOR, mirror=False, device="cpu", cancelled=lambda: bool(steps.append(1)))
    assert len(steps) == 5
    steps_done = Stepwise()
    with pytest.raises(Interruption):
        descend(model, lambda: steps_done, data, recipe, DOOR, identity="", mirror=False, device="cpu")
    assert failure.match(f"in step {steps_done.white}$|in step {steps_done.white};")
    assert "epoch 1 at learning rate 0.05" in str(failure.value)


def test_a_loss_that_is_lost_ends_a_long_epoch_early():
    model, steps = network(), []
    nn.init.constant_(model[8].weight, math.inf)
    with pytest.raises(TrainingFailure, match=r"'8\.weight'"):
        run(model, spec(batch_size=2), images(302), cancelled=lambda: bool(steps.append(1)))
    assert len(steps) == STEPS_BETWEEN_CHECKS


@pytest.mark.parametrize("ending", [None, Interruption])
def test_the_callers_generators_and_settings_are_left_as_found(ending):
    torch.manual_seed(5)
    before, benchmark = torch.get_rng_state(), torch.backends.cudnn.benchmark
    if ending:
        with pytest.raises(ending):
            run(network(), spec(epochs=1), progress=die_after(1))
    else:
        run(network(), spec(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cudnn.benchmark is benchmark
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_sample_left_over_alone_breaks_no_batch_norm():
    steps = []
    run(network(), spec(epochs=1), images(17), cancelled=lambda: bool(steps.append(1)))
    assert len(steps) == 2


def test_single_samples_and_batch_norm_do_not_go_together():
    with pytest.raises(InvalidInput, match="batch_size"):
        run(network(), spec(batch_size=1))


def test_the_modular_objective_needs_a_graph():
    with pytest.raises(Untraceable):
        train(network(), None, images(), spec(), DOOR, mirror=False, device="cpu")


class Decayed:
    """Cross-entropy and half the squared length of the first weights, as a term."""

    terms = ("length",)

    def __init__(self, model):
        self.model = model

    def __call__(self, pixels, labels):
        logits = self.model(pixels)
        length = self.model[0].weight.square().sum() / 2
        fit = nn.functional.cross_entropy(logits, labels)
        return Evaluated(logits, fit + 0.1 * length, fit, length[None])


def test_any_criterion_is_descended_on_under_its_own_identity():
    kept, heard, model = Kept(), [], network()
    common = {"mirror": False, "device": "cpu", "checkpoints": kept}
    made, begun = partial(Decayed, model), model[0].weight.square().sum() / 2
    found = descend(model, made, images(), spec(epochs=2), DOOR, identity="mine", progress=heard.append, **common)
    assert tuple(heard) == found
    for report in found:
        assert report.loss == pytest.approx(report.cross_entropy + 0.1 * report.terms["length"], rel=1e-5)
    assert found[1].terms["length"] < found[0].terms["length"] < begun
    assert [checkpoint.state["spec"] for checkpoint in kept.saved] == ["mine", "mine"]
    with pytest.raises(Conflict):
        descend(model, made, images(), spec(epochs=2), DOOR, identity="another", **common)
