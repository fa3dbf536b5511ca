"""Models that answer: whole, composed and patched."""

import copy
from decimal import Decimal

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from moda_core.data.images import fit, normalise
from moda_core.modularity.composition import compose, composition_masks, composition_plan
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.modularity.networks import full_network, network, predict
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

LABELS = ("a", "b", "c", "d")
OWN = ["vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu", "vit"]
OTHERS = [f"torchvision/{name}" for name in ("efficientnet_b0", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t")]


def modular(name="resnet18", share=0.5):
    size = {"cnn": 16, "cnn-gelu": 16}.get(name, 64 if "/" in name else 32)
    width = 0.1 if name in {"vgg16", "resnet18", "mobilenet"} else 1.0
    architecture = ArchitectureSpec(name=name, classes=len(LABELS), channels=3, image_size=size, width=width)
    draw = torch.Generator().manual_seed(4)
    counts = {
        layer.name: (torch.rand(len(LABELS), layer.units, generator=draw) < share).to(torch.int32)
        for layer in unit_graph(architecture).layers
    }
    units = {layer: torch.arange(count.shape[1]) for layer, count in counts.items()}
    rule = InputSpec(image_size=size, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    weights = initial_network(architecture, 3).state_dict()
    held = ActivationCounts(counts=counts, units=units, samples=(1,) * len(LABELS))
    return ModularModel(architecture, LABELS, tuple(range(4)), rule, weights, held, Decimal("0.9"))


def pixels(model, count=3):
    size = model.input.image_size
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


@pytest.mark.parametrize("name", OWN)
def test_threshold_0_with_all_classes_gives_back_the_originals_logits(name):
    model = modular(name)
    whole, images = compose(model, LABELS, Decimal(0)), pixels(model)
    original = full_network(model.architecture, model.weights)
    with torch.inference_mode():
        assert torch.equal(network(whole)(images), original(normalise(images, model.input)))


@pytest.mark.parametrize("name", OWN)
def test_a_composed_model_answers_as_the_masked_root(name):
    model = modular(name)
    composed, images = compose(model, ["d", "b"]), pixels(model)
    root = full_network(model.architecture, model.weights)
    masks = composition_masks(model, ["b", "d"])
    masked = MaskedModel(unit_graph(model.architecture), root, masks, composed.rows).eval()
    with torch.inference_mode():
        assert torch.allclose(network(composed)(images), masked(normalise(images, model.input)), atol=1e-5)


@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_flops_are_torchs_own_count_on_the_sliced_model(name):
    model = modular(name)
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        network(compose(model, ["a", "c"]))(pixels(model, 1))
    assert counter.get_total_flops() == composition_plan(model, ["a", "c"]).flops


def sliced(model, classes=("a", "c")):
    body = network(compose(model, classes)).body
    assert isinstance(body, nn.Module)
    return body


@pytest.mark.parametrize("name", [*OWN, "torchvision/efficientnet_b0"])
def test_a_sliced_models_states_have_the_roots_names(name):
    model = modular(name)
    composed = compose(model, ["a"])
    states = network(composed).body.state_dict()
    assert set(states) <= set(model.weights)
    for key, state in states.items():
        assert torch.equal(state, composed.weights[key])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "vgg16"])
def test_modules_tell_the_sizes_that_they_have(name):
    for part in sliced(modular(name)).modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.shape[:2] == (part.out_channels, part.in_channels // part.groups)
        if isinstance(part, nn.Linear):
            assert part.weight.shape == (part.out_features, part.in_features)
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean.shape == (part.num_features,)


def test_a_copy_answers_alike_and_shares_nothing():
    body, images = sliced(modular()), torch.randn(2, 3, 32, 32)
    twin = copy.deepcopy(body)
    with torch.inference_mode():
        expected = body(images)
        for state in body.state_dict().values():
            state.zero_()
        assert torch.equal(twin(images), expected)


def test_a_sliced_model_goes_to_another_dtype_whole():
    body, images = sliced(modular()), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = body(images)
        assert torch.allclose(body.double()(images.double()).float(), expected, atol=1e-5)
    assert {parameter.dtype for parameter in body.parameters()} == {torch.float64}


def test_a_sliced_model_loads_its_own_state_dict():
    body = sliced(modular())
    assert not any(body.load_state_dict(body.state_dict()))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
@pytest.mark.filterwarnings("ignore")
def test_a_sliced_model_is_exported(name):
    body, images = sliced(modular(name)), torch.randn(2, 3, 32, 32)
    exported = torch.export.export(body, (images,)).module()
    with torch.inference_mode():
        assert torch.allclose(exported(images), body(images), atol=1e-6)


def test_a_network_is_not_for_training():
    asked = network(compose(modular(), ["a"]))
    assert not asked.training
    assert not any(parameter.requires_grad for parameter in asked.parameters())


def test_probabilities_are_of_the_fitted_images():
    model = modular("cnn")
    raw = [torch.randint(0, 256, shape, dtype=torch.uint8) for shape in ((3, 40, 20), (1, 9, 9))]
    asked = network(model)
    found = predict(asked, raw)
    fitted = torch.cat([fit(image[None], model.input) for image in raw])
    assert torch.allclose(found, asked(fitted).softmax(1), atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(2))


def test_a_patched_network_splices_then_adapts():
    weak, strong = modular("lenet5"), modular("cnn")
    plain = TrainedModel(weak.architecture, weak.labels, weak.input, weak.weights)
    weight, bias = torch.randn(4, 4), torch.randn(4)
    patched = PatchedModel(plain, compose(strong, ["b"]), "c", weight, bias)
    raw = pixels(weak, 2)
    small = fit(raw, strong.input)
    merged = network(plain)(raw).clone()
    merged[:, 2] = network(patched.strong)(small)[:, 0]
    assert torch.allclose(network(patched)(raw, small), merged @ weight.T + bias, atol=1e-5)
