"""Folded equals plain: on random networks, our own and torchvision's, masked, sliced and whole."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, HEADS, SIZE, Pooled, recipes, stack
from torch import nn

from benchmarks.proof import MOST_ERROR, MOST_FLOAT32_RATIO, NotAlive, cut, draw_case, error
from moda_core.architectures.catalogue import build
from moda_core.inference.folding import fold
from moda_core.inference.graphs import calls_of, traced_calls
from moda_core.specs import ArchitectureSpec
from moda_core.structure.masking import MaskedModel
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.initial import initial_network

IMAGE = (3, SIZE, SIZE)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
OWN = ["vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu", "vit"]
OTHERS = [
    f"torchvision/{name}"
    for name in (
        "mobilenet_v3_small", "efficientnet_b0", "densenet121", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
        "convnext_tiny", "googlenet",
    )
]  # fmt: skip
PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def folded(calls):
    fold(calls)
    return calls.program()


def drawn(build_network, keep, seed, image, most=50, images=6):
    generator = torch.Generator().manual_seed(seed)

    def made():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            return build_network()

    return draw_case(made, keep, torch.randn(images, *image, generator=generator), generator, most=most)


def of_recipe(recipe, keep, seed, most=50):
    def made():
        network = stack(*recipe)
        return UnitGraph.trace(network, IMAGE), network

    return drawn(made, keep, seed, IMAGE, most)


def spec(name):
    size = {"cnn": 16, "cnn-gelu": 16}.get(name, 64 if "/" in name else 32)
    width = 0.1 if name in {"vgg16", "resnet18", "mobilenet"} else 1.0
    return ArchitectureSpec(name=name, classes=4, channels=3, image_size=size, width=width)


def catalogued(name, keep):
    architecture = spec(name)
    made = (unit_graph(architecture), build(architecture))
    return drawn(lambda: made, keep, 3, made[0].image_shape, images=4)


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


def agrees(case, network):
    with torch.inference_mode():
        return error(network(channels_last(case.images)), case.reference) <= MOST_ERROR


@PROPERTY
@given(recipes(), st.sampled_from([0.05, 0.2, 0.6]), st.integers(0, 2**31))
def test_a_folded_sliced_model_gives_the_masked_models_logits(recipe, keep, seed):
    try:
        case = of_recipe(recipe, keep, seed, most=3)
    except NotAlive:
        return
    assert agrees(case, folded(calls_of(case.sliced())))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("keep", [0.2, 0.6])
def test_every_kind_of_block_is_folded_exactly(block, keep):
    case = of_recipe(([(block, 12), (block, 9)], Pooled, 8), keep, seed=1)
    assert agrees(case, folded(calls_of(case.sliced())))


@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_head_is_folded_exactly(head):
    case = of_recipe(([(BLOCKS[0], 12)], head, 10), 0.4, seed=2)
    assert agrees(case, folded(calls_of(case.sliced())))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_masked_network_is_folded_too(block):
    case = of_recipe(([(block, 12), (block, 9)], Pooled, 8), 0.5, seed=4)
    masked = MaskedModel(case.graph, case.network, case.masks, case.rows).eval()
    assert isinstance(masked.network, torch.fx.GraphModule)
    masked.network = folded(calls_of(masked.network))
    assert agrees(case, masked)


@PROPERTY
@given(recipes(), st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 2**31))
def test_constants_of_silenced_layers_are_computed_beforehand(recipe, keep, seed):
    generator = torch.Generator().manual_seed(seed)
    network = stack(*recipe).double().eval()
    graph = UnitGraph.trace(network, IMAGE)
    masks = {layer.name: torch.rand(layer.units, generator=generator) < keep for layer in graph.layers}
    sliced = cut(plan(graph, masks, [0, 2]), network.state_dict())
    images = torch.randn(3, *IMAGE, generator=generator).double()
    with torch.inference_mode():
        assert torch.allclose(folded(calls_of(sliced))(channels_last(images)), sliced(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("keep", [0.1, 0.5])
@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_catalogued_networks_are_folded_exactly_and_nearly_so_in_float32(name, keep):
    case = catalogued(name, keep)
    sliced = case.sliced()
    assert agrees(case, folded(calls_of(sliced)))
    single = copy.deepcopy(sliced).float()
    with torch.inference_mode():
        own = error(single(case.images.float()), case.reference)
        found = error(folded(calls_of(single))(channels_last(case.images.float())), case.reference)
    assert found <= MOST_FLOAT32_RATIO * own


def whole(architecture, network):
    """A full network, folded by the trace of its architecture."""
    return folded(traced_calls(architecture, network.state_dict()))


@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_whole_networks_are_folded_exactly(name):
    architecture = spec(name)
    network = initial_network(architecture, 1).double().eval()
    images = torch.randn(3, 3, architecture.image_size, architecture.image_size).double()
    made = whole(architecture, network)
    with torch.inference_mode():
        assert torch.allclose(made(channels_last(images)), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "vgg16", "torchvision/efficientnet_b0"])
def test_norms_after_convolutions_are_gone(name):
    made = whole(spec(name), initial_network(spec(name), 1))
    assert not any(isinstance(part, NORMS) for part in made.modules())


def test_what_is_folded_stays_as_it_was():
    case = of_recipe(([(BLOCKS[0], 12), (BLOCKS[2], 9)], Pooled, 8), 0.5, seed=6)
    sliced = case.sliced()
    before = copy.deepcopy(sliced.state_dict())
    made = folded(calls_of(sliced))
    with torch.inference_mode():
        made(channels_last(case.images))
        assert error(sliced(case.images), case.reference) <= MOST_ERROR
    after = sliced.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_convolution_that_others_read_keeps_its_norm():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 3)

        def forward(self, x):
            y = self.conv(x)
            return self.fc((self.norm(y).relu() + y).mean([2, 3]))

    network = Forked().double().eval()
    network.norm.running_mean.normal_()
    graph, images = torch.fx.symbolic_trace(network), torch.randn(2, 3, 4, 4).double()
    made = folded(calls_of(graph))
    assert any(isinstance(part, nn.BatchNorm2d) for part in made.modules())
    with torch.inference_mode():
        assert torch.allclose(made(images), network(images), rtol=1e-12)


class Shared(nn.Module):
    """A convolution that is called twice, beside one that pads by reflection and a pool that tells places."""

    def __init__(self):
        super().__init__()
        self.twice, self.reflecting = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        )
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(4 * (SIZE // 2) ** 2, 2)

    def forward(self, image):
        again = self.twice(torch.relu(self.twice(image)))
        return self.head(self.pool(self.reflecting(again)).flatten(1))


def test_the_commonest_parts_are_called_as_functions_around_the_same_tensors():
    torch.manual_seed(0)
    network = Shared().eval()
    calls = calls_of(torch.fx.symbolic_trace(network))
    fold(calls)
    called = [node.target for node in calls.graph.nodes if node.op == "call_function"]
    assert called.count(torch.conv2d) == 2
    assert called.count(torch.max_pool2d) == called.count(nn.functional.linear) == 1
    program = calls.program()
    assert [type(part) for part in program.modules() if type(part) is nn.Conv2d] == [nn.Conv2d]  # the reflecting one
    tensors = {tensor.data_ptr() for tensor in program.state_dict().values()}
    assert len(tensors) == len(list(network.parameters()))
    images = torch.randn(5, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(program(channels_last(images)), network(images), rtol=1e-5, atol=1e-6)


def test_an_activation_overwrites_only_what_nobody_else_reads():
    class TwoReaders(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)

        def forward(self, image):
            made = self.first(image)
            return (made + nn.functional.relu(made)).mean((2, 3))

    torch.manual_seed(0)
    network = TwoReaders().eval()
    made = folded(calls_of(torch.fx.symbolic_trace(network)))
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(made(channels_last(images)), network(images), rtol=1e-5, atol=1e-6)
