"""The choice of a form: the fastest that is right, and never a wrong one."""

import json
import time
from dataclasses import replace
from decimal import Decimal

import pytest
import torch
from torch import nn

from moda_core.errors import Cancelled
from moda_core.inference import forms
from moda_core.inference.executables import Executable, executable
from moda_core.inference.forms import BF16_BOUND, candidates, choose
from moda_core.inference.mixing import MixedModel
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

LABELS = ("a", "b", "c")
RULE = InputSpec(image_size=16, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def modular(name="resnet18", width=0.25, labels=LABELS):
    architecture = ArchitectureSpec(name=name, classes=len(labels), channels=3, image_size=16, width=width)
    layers = unit_graph(architecture).layers
    counts = {layer.name: torch.ones(len(labels), layer.units, dtype=torch.int32) for layer in layers}
    units = {layer.name: torch.arange(layer.units) for layer in layers}
    held = ActivationCounts(counts=counts, units=units, samples=(1,) * len(labels))
    weights = initial_network(architecture, 3).state_dict()
    return ModularModel(architecture, labels, tuple(range(len(labels))), RULE, weights, held, Decimal("0.9"))


@pytest.fixture(autouse=True)
def two_forms(monkeypatch, request):
    """Most of what is told here is told of a choice between two forms, and holds for more."""
    if "every_form" not in request.fixturenames:
        for can in ("can_pack", "can_lower"):
            monkeypatch.setattr(forms, can, lambda _device: False)


@pytest.fixture
def every_form():
    """For tests of those that this machine has."""


def images(count=64):
    return (torch.randint(0, 256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(2)).to(torch.uint8),)


def report(choice, form):
    return next(one for one in choice.reports if one.form == form)


def changed(asked, change):
    """The same executable around a changed module."""
    module = change(asked._run)
    return Executable(module, labels=asked.labels, inputs=asked.inputs, form=asked.form, device="cpu")


class Slow(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, *pixels):
        for _ in range(20):
            self.body(*pixels)
        return self.body(*pixels)


@pytest.mark.usefixtures("every_form")
def test_all_candidates_are_tried_and_hold():
    choice = choose(modular(), rounds=2)
    assert [one.form for one in choice.reports] == candidates("cpu")
    assert all(one.held and one.error <= one.bound for one in choice.reports)
    assert choice.images == 0


@pytest.mark.usefixtures("every_form")
def test_packed_is_for_cpus_with_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert candidates("cpu", ["compiled"]) == ["plain", "folded", "packed", "onnxruntime", "compiled"]
    assert candidates("cuda:0", ["captured"]) == ["plain", "folded", "captured"]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert candidates("cpu") == ["plain", "folded", "onnxruntime"]


def test_the_report_is_json():
    choice = choose(modular(), rounds=1, allow=["bf16"])
    assert json.loads(json.dumps(choice.to_json(), allow_nan=False))["form"] == choice.form


@pytest.mark.parametrize("slow", ["plain", "folded"])
def test_the_faster_one_is_chosen(slow):
    def build(model, form, device):
        asked = executable(model, form, device)
        return changed(asked, Slow) if form == slow else asked

    assert choose(modular(), rounds=3, build=build).form == {"plain": "folded", "folded": "plain"}[slow]


class Waking(nn.Module):
    """Quicker than the other form, but for the one image after a large batch."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        Waking.after_large = False

    def forward(self, *given):
        time.sleep(0.01 if Waking.after_large and len(given[0]) == 1 else 0)
        Waking.after_large = len(given[0]) > 1
        return self.body(*given)


class Steady(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, *given):
        Waking.after_large = len(given[0]) > 1
        time.sleep(0.005)
        return self.body(*given)


def test_what_one_image_finds_in_the_caches_after_a_large_batch_does_not_count():
    def build(model, form, device):
        return changed(executable(model, form, device), Steady if form == "plain" else Waking)

    folded = report(choose(modular(), rounds=2, build=build), "folded")
    assert folded.single_ms < 10


class Disturbed(nn.Module):
    """Held up for most of its calls by what else the machine does."""

    def __init__(self, body):
        super().__init__()
        self.body, self.calls = body, 0

    def forward(self, *given):
        self.calls += 1
        if self.calls % 8 >= 2:  # a batch of one and one of many now and then are left alone
            time.sleep(0.05)
        return self.body(*given)


def test_the_shortest_time_of_each_form_counts_whatever_disturbs_the_others():
    def build(model, form, device):
        return changed(executable(model, form, device), Slow if form == "plain" else Disturbed)

    assert choose(modular(), rounds=8, build=build).form == "folded"


def test_a_folding_that_drops_a_bias_is_caught_however_fast_it_is():
    def without_bias(module):
        next(weight for name, weight in module.named_parameters() if name.endswith("_bias")).data.zero_()
        return module

    def build(model, form, device):
        asked = executable(model, form, device)
        return changed(asked, Slow if form == "plain" else without_bias)

    model = modular()
    norms = {name: torch.rand_like(weight) for name, weight in model.weights.items() if name.endswith("bn1.bias")}
    choice = choose(replace(model, weights={**model.weights, **norms}), rounds=2, build=build)
    assert choice.form == "plain"
    assert not report(choice, "folded").held
    assert "error" in report(choice, "folded").reason


def test_what_is_not_a_number_never_holds():
    def silent(module):
        last = list(module.parameters())[-1]
        last.data = last.data * torch.nan  # a tensor of its own: the others hold the one that it was
        return module

    def build(model, form, device):
        asked = executable(model, form, device)
        return changed(asked, silent) if form == "folded" else asked

    choice = choose(modular(), rounds=1, build=build)
    assert choice.form == "plain"
    assert report(choice, "folded").error is None


def test_bfloat16_does_not_hold_without_images():
    found = report(choose(modular(), rounds=1, allow=["bf16"]), "bf16")
    assert not found.held
    assert found.bound == BF16_BOUND


def test_bfloat16_that_changes_answers_does_not_hold():
    found = report(choose(modular(), rounds=1, allow=["bf16"], images=images(600)), "bf16")
    assert found.changed is not None
    assert found.held == (found.changed <= 1e-3 and found.error <= BF16_BOUND)


def test_a_form_that_cannot_be_had_is_left_out_with_its_reason():
    choice = choose(modular(), rounds=1, allow=["captured"])
    assert not report(choice, "captured").held
    assert "CUDA" in report(choice, "captured").reason
    assert report(choice, "captured").single_ms is None


def test_a_compiler_that_is_missing_does_not_fail_the_choice():
    def build(model, form, device):
        if form == "compiled":
            raise RuntimeError("No working C++ compiler found\nand much more")
        return executable(model, form, device)

    found = report(choose(modular(), rounds=1, allow=["compiled"], build=build), "compiled")
    assert found.reason == "not available: No working C++ compiler found"


class Breaking(nn.Module):
    """Answers so many times."""

    def __init__(self, body, calls, error):
        super().__init__()
        self.body, self.left, self.error = body, calls, error

    def forward(self, *pixels):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.body(*pixels)


def breaking(form_that_breaks, calls, error):
    def build(model, form, device):
        asked = executable(model, form, device)
        return changed(asked, lambda module: Breaking(module, calls, error)) if form == form_that_breaks else asked

    return build


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), ValueError(), Cancelled("a call")])
@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_form_that_breaks_leaves_the_choice_to_the_others(calls, error):
    choice = choose(modular(), rounds=3, build=breaking("folded", calls, error))
    found = report(choice, "folded")
    assert choice.form == "plain"
    assert (found.held, found.single_ms) == (False, None)
    assert found.reason.startswith("not available: ")


def test_where_even_the_plain_form_breaks_there_may_be_another():
    assert choose(modular(), rounds=1, build=breaking("plain", 2, RuntimeError("no"))).form == "folded"


def test_where_every_form_breaks_there_is_no_choice():
    def build(model, form, device):
        return changed(executable(model, form, device), lambda module: Breaking(module, 2, RuntimeError("no")))

    with pytest.raises(RuntimeError, match="no"):
        choose(modular(), rounds=1, build=build)


def slow_in(make, slow):
    """Makes executables that are slow in the form that `slow` names for a model."""

    def build(model, form, device):
        asked = make(model, form, device)
        if form == slow(model):
            asked._run = Slow(asked._run)
        return asked

    return build


@pytest.mark.parametrize("slow", ["plain", "folded"])
def test_compositions_and_mixed_batches_have_forms_of_their_own(slow):
    """The root is slow in one form, what is composed of it in the other, and the mixed in one of the two."""
    build = slow_in(executable, lambda model: "folded" if model.composed else "plain")
    choice = choose(modular(labels=tuple("abcd")), rounds=3, build=build, mix=slow_in(MixedModel, lambda _: slow))
    assert (choice.form, choice.composed.form) == ("folded", "plain")
    assert choice.mixed.form == {"plain": "folded", "folded": "plain"}[slow]
    for made in (choice.composed, choice.mixed):
        assert {one.form for one in made.times} == {"plain", "folded"}
        assert all(one.single_ms > 0 and one.image_ms > 0 for one in made.times)


class Off(nn.Module):
    """Wrong by a little, and fast."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, *given):
        return self.body(*given) * 1.01


@pytest.mark.parametrize("wrong", ["root", "composed", "mixed"])
def test_a_form_that_does_not_hold_is_not_taken_however_fast_it_is(wrong):
    def off(make, name):
        def build(model, form, device):
            kind = "mixed" if make is MixedModel else "composed" if model.composed else "root"
            asked = make(model, form, device)
            if form == "plain":
                asked._run = Slow(asked._run)
            elif kind == name:
                asked._run = Off(asked._run)
            return asked

        return build

    choice = choose(modular(labels=tuple("abcd")), rounds=1, build=off(executable, wrong), mix=off(MixedModel, wrong))
    found = {"root": choice.form, "composed": choice.composed.form, "mixed": choice.mixed.form}
    expected = dict.fromkeys(found, "plain") if wrong == "root" else dict.fromkeys(found, "folded") | {wrong: "plain"}
    assert found == expected


def test_compositions_are_not_compiled_unless_the_root_is():
    made = []

    def build(model, form, device):
        made.append((form, model.composed))
        return executable(model, "folded" if form == "compiled" else form, device)

    slow = slow_in(build, lambda _: "compiled")
    choose(modular(labels=tuple("abcd")), rounds=1, allow=["compiled"], build=slow)
    assert ("compiled", False) in made
    assert ("compiled", True) not in made


def test_a_form_that_compositions_cannot_have_is_left_out():
    def build(model, form, device):
        if form == "folded" and len(model.labels) == 3 and isinstance(model, ModularModel) and model.composed:
            raise ValueError("no")
        return executable(model, form, device)

    assert choose(modular(labels=("a", "b", "c", "d")), rounds=1, build=build).composed.form == "plain"


def test_only_modular_models_have_compositions():
    model = modular()
    whole = TrainedModel(model.architecture, model.labels, model.input, model.weights)
    choice = choose(whole, rounds=1)
    assert (choice.composed, choice.mixed) == (None, None)


def test_patched_models_are_chosen_for_too():
    weak, strong = modular("lenet5", 1.0), compose(modular("cnn", 1.0), ["b"])
    draw = torch.Generator().manual_seed(1)
    model = PatchedModel(weak, strong, "b", torch.randn(3, 3, generator=draw), torch.randn(3, generator=draw))
    assert report(choose(model, rounds=1), "folded").held


def test_of_a_network_whose_logits_do_not_vary_the_plain_form_is_taken():
    model = modular()
    still = {name: torch.zeros_like(weight) for name, weight in model.weights.items() if name.startswith("fc")}
    choice = choose(replace(model, weights={**model.weights, **still}), rounds=1)
    assert choice.form == "plain"
    assert json.dumps(choice.to_json(), allow_nan=False)


def test_a_choice_ends_when_it_is_asked_to():
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        choose(modular(), rounds=1000, cancelled=cancelled)
