import itertools
import math

import pytest
import torch
from torch import nn

from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.generators import MaskGenerator, hidden_width, initial_generators, soft_kernel_graph
from moda_core.baselines.mwt.kernels import kernel_graph
from moda_core.baselines.mwt.training import (
    MwtCriterion,
    MwtModel,
    MwtSpec,
    initial_mwt,
    mwt_model,
    mwt_network,
    train_mwt,
)
from moda_core.data.dataset import subset
from moda_core.data.digits import load_digits
from moda_core.errors import Corrupt, InvalidInput
from moda_core.specs import InputSpec, canonical_json, sha256
from moda_core.training.distributed import Ranks
from moda_core.training.initial import initial_network
from moda_core.training.objectives import modular_losses

DIGITS = load_digits()


def architecture(name="resnet18", width=0.125, **shape):
    return complete(name, classes=10, channels=shape.pop("channels", 1), width=width, **shape)


def door(spec):
    return InputSpec(
        image_size=spec.image_size, channels=spec.channels, mean=(0.5,) * spec.channels, std=(0.25,) * spec.channels
    )


def recipe(**changes):
    fields = {"dataset": "digits", "architecture": "cnn", "width": 0.25, "epochs": 3, "batch_size": 64}
    return MwtSpec(**fields | {"crop_padding": 1, "fraction": 0.1} | changes)


class Kept:
    """Checkpoints in memory."""

    def __init__(self, saved=()):
        self.saved = list(saved)

    def load(self):
        return self.saved[-1] if self.saved else None

    def save(self, checkpoint):
        self.saved.append(checkpoint)


def digest(model):
    return sha256(canonical_json({name: tensor.tolist() for name, tensor in model.tensors().items()}))


# The mask formula.


def test_a_generator_is_the_formula_worked_by_hand():
    generator = MaskGenerator(2, 3)
    generator.load_state_dict(
        {
            "reduce.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]),
            "expand.weight": torch.tensor([[1.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]),
            "expand.bias": torch.tensor([0.0, 1.0, -0.5]),
        }
    )
    # g = (1, 2): h = ReLU(1, 2, 1) = (1, 2, 1), z = (3, -1, 1.5), m = (tanh 3, 0, tanh 1.5)
    # g = (2, -1): h = ReLU(2, -1, -3) = (2, 0, 0), z = (2, 1, -0.5), m = (tanh 2, tanh 1, 0)
    found = generator(torch.tensor([[1.0, 2.0], [2.0, -1.0]]))
    wanted = [[math.tanh(3), 0, math.tanh(1.5)], [math.tanh(2), math.tanh(1), 0]]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_hidden_neurons_are_as_many_as_kernels_below_128_and_half_as_many_from_there():
    assert [hidden_width(kernels) for kernels in (1, 64, 127, 128, 129, 512)] == [1, 64, 127, 64, 64, 256]


@pytest.mark.parametrize(("name", "most", "mean"), [("vgg16", 22.28, 13.46), ("resnet18", 149.22, 36.03)])
def test_generators_add_the_weights_that_the_moda_paper_found_they_add(name, most, mean):
    """Section 2: per masked layer, in per cent of the parameters of convolution and batch norm."""
    graph = kernel_graph(architecture(name, 1.0, channels=3))
    added = []
    for layer, node in graph.layer_nodes.items():
        convolution = node.all_input_nodes[0]
        own = sum(
            math.prod(graph.state_shapes[state])
            for part in (convolution, node)
            for state in graph.states[part]
            if state in graph.parameter_names
        )
        generator = MaskGenerator(graph.operations[convolution].inputs[0].width, layer.units)
        added.append(100 * sum(parameter.numel() for parameter in generator.parameters()) / own)
    assert round(max(added), 2) == most
    assert round(sum(added) / len(added), 2) == mean


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("vgg16", 13), ("mobilenet", 27), ("lenet5", 2)])
def test_every_convolution_but_the_stem_is_masked(name, convolutions):
    spec = architecture(name)
    found = [part for part in initial_network(spec, 0).modules() if isinstance(part, nn.Conv2d)]
    layers = kernel_graph(spec).layers
    assert len(found) == convolutions
    assert sorted(layer.units for layer in layers) == sorted(part.out_channels for part in found[1:])
    assert [layer.units for layer in soft_kernel_graph(spec).layers] == [layer.units for layer in layers]


def test_masks_begin_wide_open_and_under_their_own_seed():
    graph = kernel_graph(architecture("cnn", 8.0))
    before = torch.get_rng_state()
    first, same, other = (initial_generators(graph, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in first.items():
        assert torch.equal(tensor, same[name])
        if name.endswith("bias"):
            assert (tensor == 1).all()
        else:
            assert not torch.equal(tensor, other[name])
            assert tensor.std() == pytest.approx(math.sqrt(2 / tensor.shape[1]), rel=0.05)


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "mobilenet", "cnn", "lenet5"])
@pytest.mark.parametrize("training", [False, True])
def test_a_masked_layer_is_its_norm_times_its_generator(name, training):
    """Against hooks on the plain network, which know nothing of graphs."""
    spec = architecture(name)
    network = initial_mwt(spec, 0).train(training)
    image = torch.randn(4, 1, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(0))
    randomised(network.generators)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        logits, masks = network.masked(training=training, masks=True)(image)
        expected = {}
        hooks = hand_hooks(network, expected)
        torch.manual_seed(3)
        wanted = network.network(image)
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(logits, wanted)
    assert masks.keys() == expected.keys()
    assert any((mask == 0).any() for mask in masks.values())
    for layer, mask in masks.items():
        torch.testing.assert_close(mask, expected[layer])


def randomised(generators):
    """So that some masks are closed."""
    draw = torch.Generator().manual_seed(5)
    for parameter in generators.parameters():
        parameter.data.normal_(0, 0.7, generator=draw)


def hand_hooks(network, masks):
    """Multiply the output of each masked part of the plain network by its generator's mask."""
    graph = network.graph
    pooled, hooks = {}, []
    for layer, node in graph.layer_nodes.items():
        part = network.network.get_submodule(node.target)
        convolution = part if isinstance(part, nn.Conv2d) else network.network.get_submodule(node.args[0].target)

        def remember(_part, inputs, layer=layer):
            pooled[layer] = inputs[0].mean((2, 3))

        def multiply(_part, _inputs, output, layer=layer):
            masks[layer.name] = network.generators[layer.name](pooled[layer])
            return output * masks[layer.name][:, :, None, None]

        hooks += [convolution.register_forward_pre_hook(remember), part.register_forward_hook(multiply)]
    return hooks


# The loss.


def naive_terms(masks, labels):
    """Cohesion and coupling as they are written: layer by layer, pair by pair, each pair once."""
    cohesions, couplings = [], []
    for mask in masks.values():
        alike, apart = [], []
        for first, second in itertools.combinations(range(len(labels)), 2):
            lengths = mask[first].norm() * mask[second].norm()
            similarity = mask[first] @ mask[second] / lengths if lengths > 0 else (mask[first] * 0).sum()
            (alike if labels[first] == labels[second] else apart).append(similarity)
        cohesions.append(1 - torch.stack(alike).mean() if alike else mask.sum() * 0)
        couplings.append(torch.stack(apart).mean() if apart else mask.sum() * 0)
    return torch.stack(cohesions).mean(), torch.stack(couplings).mean()


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 0, 2, 1, 0, 2, 0], [0, 0, 0, 0], [0, 1, 2, 3], [3, 3, 3, 3, 3, 1]],
    ids=["mixed", "one class", "no pair of one class", "a single sample"],
)
def test_the_terms_are_those_of_a_naive_double_loop_with_their_gradients(labels):
    draw = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(len(labels), width, generator=draw, dtype=torch.float64).sub(0.4).relu().requires_grad_()
        for name, width in (("a", 5), ("b", 5), ("c", 12))
    }
    with torch.no_grad():
        masks["b"][1] = 0  # a collapsed mask is similar to nothing
    labels = torch.tensor(labels)
    losses = modular_losses(masks, labels, 5, weighting="pair")
    for found, wanted in zip((losses.affinity, losses.dispersion), naive_terms(masks, labels), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        slopes = torch.autograd.grad(found, list(masks.values()), retain_graph=True)
        expected = torch.autograd.grad(wanted, list(masks.values()), retain_graph=True, materialize_grads=True)
        for slope, naive in zip(slopes, expected, strict=True):
            torch.testing.assert_close(slope, naive, rtol=1e-10, atol=1e-10)


def test_the_criterion_weighs_its_terms_and_both_kinds_of_parameters_descend():
    spec = architecture("cnn", image_size=8)
    network = initial_mwt(spec, 0)
    criterion = MwtCriterion(network, alpha=0.25, beta=2.0)
    pixels, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 2, 1, 0])
    logits, loss, cross_entropy, terms = criterion(pixels, labels)
    assert criterion.terms == ("cohesion", "coupling")
    assert torch.equal(cross_entropy, nn.functional.cross_entropy(logits, labels))
    torch.testing.assert_close(loss, cross_entropy + 0.25 * terms[0] + 2.0 * terms[1])
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_batch_without_a_pair_of_one_class_is_harmless():
    network = initial_mwt(architecture("cnn", image_size=8), 0)
    found = MwtCriterion(network)(torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2]))
    found.loss.backward()
    assert found.terms[0] == 0
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


class HalfOfTwo(Ranks):
    """Meets the sums that another rank gave, in their order; with none it keeps its own for the other."""

    def total(self, part):
        self.given.append(part.detach())
        return part + self.others.pop(0) if self.others else part


def half(others):
    ranks = HalfOfTwo(rank=0, world=2)
    object.__setattr__(ranks, "given", [])
    object.__setattr__(ranks, "others", list(others))
    return ranks


def test_the_loss_of_a_shared_batch_is_that_of_the_joint_one():
    network = initial_mwt(architecture("lenet5"), 0).double()
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(7, 1, 32, 32, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2])
    _, *joint = MwtCriterion(network)(pixels, labels)
    other = half([])
    MwtCriterion(network, ranks=other)(pixels[:3], labels[:3])
    _, *shared = MwtCriterion(network, ranks=half(other.given))(pixels[3:], labels[3:])
    torch.testing.assert_close(shared, joint, rtol=1e-10, atol=1e-10)


# Specs, training and what is stored.


def test_a_spec_has_the_published_weights_and_checks_its_ranges():
    spec = MwtSpec(dataset="d", architecture="vgg16")
    assert (spec.alpha, spec.beta, spec.learning_rate, spec.epochs) == (0.5, 1.5, 0.05, 200)
    assert MwtSpec.from_json(spec.to_json()) == spec
    assert spec.recipe().weight_decay == 0
    assert spec.digest() != spec.recipe().digest()
    with pytest.raises(InvalidInput, match="beta"):
        MwtSpec(dataset="d", architecture="vgg16", beta=-1.0)


def run(spec, kept=None, **options):
    shape = architecture(spec.architecture, spec.width, image_size=8)
    network, reports = initial_mwt(shape, spec.seed), []
    train_mwt(
        network,
        subset(DIGITS.train, spec.fraction, spec.seed),
        spec,
        door(shape),
        mirror=False,
        device="cpu",
        checkpoints=kept,
        progress=reports.append,
        **options,
    )
    return mwt_model(network, shape, DIGITS.classes, door(shape)), reports


def test_a_resumed_run_ends_with_the_same_bits():
    kept = Kept()
    whole, reports = run(recipe(), kept)
    assert [tuple(report.terms) for report in reports] == [("cohesion", "coupling")] * 3
    for done in (1, 2):
        resumed, rest = run(recipe(), Kept(kept.saved[:done]))
        assert digest(resumed) == digest(whole)
        assert len(rest) == 3 - done
    assert digest(run(recipe(seed=1))[0]) != digest(whole)


def test_a_model_comes_back_from_its_tensors():
    model = run(recipe(epochs=1))[0]
    found = MwtModel.from_tensors(model.tensors(), model.to_json())
    assert (found.architecture, found.labels, found.input) == (model.architecture, model.labels, model.input)
    assert digest(found) == digest(model)
    image = torch.randn(5, 1, 8, 8)
    answers = [mwt_network(one).masked()(image) for one in (model, found)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("lost", ["network/features.0.weight", "generators/features_4.expand.bias"])
def test_tensors_of_another_network_are_refused(lost):
    model = run(recipe(epochs=1))[0]
    tensors = model.tensors()
    assert lost in tensors
    del tensors[lost]
    with pytest.raises(Corrupt, match="not those of cnn"):
        MwtModel.from_tensors(tensors, model.to_json())


def test_training_pulls_masks_of_a_class_together_and_of_classes_apart():
    gentle, strong = (run(recipe(fraction=1.0, epochs=3, beta=beta))[1][-1] for beta in (0.0, 5.0))
    assert strong.terms["coupling"] < gentle.terms["coupling"] - 0.05
    assert strong.accuracy > 0.5
