"""The objectives against the paper's equations, written as the double loops they are printed as."""

import itertools

import hypothesis
import pytest
import torch
from hypothesis import strategies

from moda_core.training.objectives import modular_losses

TERMS = ("affinity", "dispersion", "compactness")


def cosine(first, second):
    lengths = first.norm(), second.norm()
    return first @ second / (lengths[0] * lengths[1]) if min(lengths) >= 1e-8 else (first * 0).sum()


def mean(values):
    values = list(values)
    return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)


def loops(layers, labels, weighting, compactness):
    """Equations 2 to 6, pair by pair and layer by layer."""
    present = sorted(set(labels.tolist()))
    terms = {term: [] for term in TERMS}
    for y in layers.values():
        of_class = {c: [y[p] for p in range(len(labels)) if labels[p] == c] for c in present}
        within = [[cosine(a, b) for a, b in itertools.combinations(of_class[c], 2)] for c in present]
        across = [
            [cosine(a, b) for a in of_class[c] for b in of_class[d]] for c, d in itertools.combinations(present, 2)
        ]
        norms = [[v.abs().mean() if compactness == "mean" else v.abs().sum() for v in of_class[c]] for c in present]
        groups = [within, across, norms]
        if weighting == "pair":
            averages = [mean(itertools.chain(*group)) for group in groups]
        else:
            averages = [mean(mean(values) for values in group if values) for group in groups]
        terms["affinity"].append(1 - averages[0] if any(within) else averages[0])
        terms["dispersion"].append(averages[1])
        terms["compactness"].append(averages[2])
    return {term: mean(values) for term, values in terms.items()}


def random_case(seed):
    """A batch with classes missing or alone and with zero vectors, over layers of equal and other widths."""
    draw = torch.Generator().manual_seed(seed)
    classes, batch = (int(torch.randint(1, high, (), generator=draw)) for high in (7, 14))
    labels = torch.randint(classes, (batch,), generator=draw)
    layers = {}
    for name, width in {"a": 1, "b": 5, "c": 5, "d": 8}.items():
        y = torch.randn(batch, width, generator=draw, dtype=torch.float64).relu()
        y[torch.rand(batch, generator=draw) < 0.2] = 0
        layers[name] = y
    return layers, labels, classes


def gradients(value, layers):
    grads = torch.autograd.grad(
        value, list(layers.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("weighting", ["class", "pair"])
@pytest.mark.parametrize("compactness", ["mean", "sum"])
@pytest.mark.parametrize("seed", range(12))
def test_losses_and_gradients_equal_the_printed_double_loops(seed, weighting, compactness):
    layers, labels, classes = random_case(seed)
    layers = {name: y.requires_grad_() for name, y in layers.items()}
    found = modular_losses(layers, labels, classes, weighting=weighting, compactness=compactness)
    expected = loops(layers, labels, weighting, compactness)
    for term in TERMS:
        ours, theirs = getattr(found, term), expected[term]
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-10)
        wanted = gradients(theirs, layers) if theirs.requires_grad else torch.zeros(1)
        assert (gradients(ours, layers) - wanted).abs().max() < 1e-10


def activations(samples, names):
    """Activation vectors of a batch, every ninth of them zero."""
    draw = torch.Generator().manual_seed(3)
    layers = {name: torch.randn(samples, 6, generator=draw, dtype=torch.float64).relu() for name in names}
    for y in layers.values():
        y[::9] = 0
    return {name: y.requires_grad_() for name, y in layers.items()}


def check_against_loops(layers, labels, classes, weighting):
    found, expected = (
        modular_losses(layers, labels, classes, weighting=weighting),
        loops(layers, labels, weighting, "mean"),
    )
    for term in TERMS:
        ours, theirs = getattr(found, term), expected[term]
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-10)
        slopes = gradients(ours, layers)
        assert (slopes - gradients(theirs, layers)).abs().max() < 1e-10
        if term != "compactness":
            zero = torch.cat([(y == 0).all(dim=1, keepdim=True).expand_as(y).flatten() for y in layers.values()])
            assert zero.any()
            assert not slopes[zero].any()


def test_a_hundred_classes_in_a_batch_of_128():
    draw = torch.Generator().manual_seed(2)
    labels = torch.randint(100, (128,), generator=draw)
    sizes = labels.bincount(minlength=100)
    assert {0, 1, 2} <= set(sizes.tolist())  # classes that are missing, alone, and in pairs
    check_against_loops(activations(128, "a"), labels, 100, "class")


@pytest.mark.parametrize("weighting", ["class", "pair"])
def test_a_batch_that_lacks_a_class(weighting):
    labels = torch.tensor([0, 2, 2, 0, 2, 3, 3, 0, 0, 2])
    check_against_loops(activations(10, "ab"), labels, 5, weighting)


def test_a_case_worked_by_hand():
    y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    losses = modular_losses({"layer": y}, torch.tensor([0, 0, 2, 2]), 4)
    root = 0.5**0.5
    assert losses.affinity.item() == pytest.approx(1 - (root + 0) / 2)
    assert losses.dispersion.item() == pytest.approx((0 + root + 0 + 0) / 4)
    assert losses.compactness.item() == pytest.approx(((0.5 + 1) / 2 + (1 + 0) / 2) / 2)
    assert losses.weighted(2.0, 3.0, 4.0).item() == pytest.approx(
        2 * losses.affinity.item() + 3 * losses.dispersion.item() + 4 * losses.compactness.item()
    )


@pytest.mark.parametrize("weighting", ["class", "pair"])
@pytest.mark.parametrize(
    ("labels", "absent"),
    [([0, 1, 2], ["affinity"]), ([1, 1, 1], ["dispersion"]), ([2], ["affinity", "dispersion"]), ([], TERMS)],
    ids=["all alone", "one class", "one sample", "no sample"],
)
def test_an_absent_term_is_zero_with_zero_gradient(labels, absent, weighting):
    draw = torch.Generator().manual_seed(0)
    layers = {"layer": torch.rand(len(labels), 6, generator=draw).requires_grad_()}
    losses = modular_losses(layers, torch.tensor(labels, dtype=torch.int64), 3, weighting=weighting)
    for term in absent:
        assert getattr(losses, term).item() == 0
        assert not gradients(getattr(losses, term), layers).any()


def test_vectors_below_1e_8_count_as_zero_and_get_no_direction_gradient():
    layers = {"layer": torch.tensor([[0.0, 0.0], [5e-9, 0.0], [1.0, 1.0]]).requires_grad_()}
    losses = modular_losses(layers, torch.tensor([0, 0, 1]), 2)
    assert losses.affinity.item() == 1
    assert losses.dispersion.item() == 0
    assert not gradients(losses.affinity + losses.dispersion, layers).any()


def test_a_network_without_layers_has_no_modular_loss():
    losses = modular_losses({}, torch.tensor([0, 1]), 2)
    assert [losses.affinity.item(), losses.dispersion.item(), losses.compactness.item()] == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_even_under_autocast(dtype):
    draw = torch.Generator().manual_seed(1)
    y = torch.rand(32, 64, generator=draw).to(dtype)
    labels = torch.arange(32) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = modular_losses({"layer": y}, labels, 4)
    exact = modular_losses({"layer": y.double()}, labels, 4)
    for term in TERMS:
        assert getattr(found, term).dtype == torch.float32
        assert getattr(found, term).item() == pytest.approx(getattr(exact, term).item(), abs=1e-5)


def test_a_value_that_is_not_finite_shows_in_the_losses():
    losses = modular_losses({"layer": torch.tensor([[1.0, torch.nan], [1.0, 0.0]])}, torch.tensor([0, 0]), 1)
    assert losses.affinity.isnan()
    assert losses.compactness.isnan()


cases = strategies.integers(0, 10_000).map(random_case)
either = strategies.sampled_from(["class", "pair"])


@hypothesis.settings(max_examples=40, deadline=None, database=None)
@hypothesis.given(cases, either, strategies.floats(1e-3, 1e3))
def test_affinity_and_dispersion_see_directions_only_and_compactness_scales(case, weighting, factor):
    layers, labels, classes = case
    before = modular_losses(layers, labels, classes, weighting=weighting)
    scaled = {name: y * factor for name, y in layers.items()}
    after = modular_losses(scaled, labels, classes, weighting=weighting)
    assert after.affinity.item() == pytest.approx(before.affinity.item(), abs=1e-9)
    assert after.dispersion.item() == pytest.approx(before.dispersion.item(), abs=1e-9)
    assert after.compactness.item() == pytest.approx(before.compactness.item() * factor, rel=1e-9)


@hypothesis.settings(max_examples=40, deadline=None, database=None)
@hypothesis.given(cases, either, strategies.integers(0, 100))
def test_losses_are_bounded_and_know_no_order_of_samples_or_classes(case, weighting, seed):
    layers, labels, classes = case
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=draw)
    names = torch.randperm(classes, generator=draw)
    before = modular_losses(layers, labels, classes, weighting=weighting)
    shuffled = {name: y[order] for name, y in layers.items()}
    after = modular_losses(shuffled, names[labels[order]], classes, weighting=weighting)
    for term in TERMS:
        assert getattr(after, term).item() == pytest.approx(getattr(before, term).item(), abs=1e-9)
    for term in ("affinity", "dispersion"):
        assert -1e-9 <= getattr(before, term).item() <= 1 + 1e-9


@hypothesis.settings(max_examples=20, deadline=None, database=None)
@hypothesis.given(strategies.integers(0, 10_000))
def test_both_weightings_agree_when_all_classes_are_equally_large(seed):
    draw = torch.Generator().manual_seed(seed)
    layers = {"layer": torch.rand(12, 5, generator=draw, dtype=torch.float64)}
    labels = torch.arange(12) % 3
    by_class, by_pair = (modular_losses(layers, labels, 3, weighting=w) for w in ("class", "pair"))
    for term in TERMS:
        assert getattr(by_class, term).item() == pytest.approx(getattr(by_pair, term).item(), abs=1e-12)
