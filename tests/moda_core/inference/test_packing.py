"""Packed equals folded, in float32: on random networks, our own and torchvision's."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, SIZE, Pooled, recipes, stack
from torch import nn

from benchmarks.drawn import drawn_model
from moda_core.errors import InvalidInput
from moda_core.inference.executables import check_form, executable
from moda_core.inference.folding import fold
from moda_core.inference.graphs import READS, calls_of, traced_calls, with_sizes
from moda_core.inference.packing import can_pack, pack
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network
from moda_core.specs import ArchitectureSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

CONVOLUTION = torch.ops.mkldnn._convolution_pointwise.default
NAMES = [
    "vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu", "vit", "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5", "torchvision/googlenet",
]  # fmt: skip

pytestmark = pytest.mark.skipif(not can_pack("cpu"), reason="needs a torch with oneDNN")


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


def both(calls_again, images):
    """What the packed calls and the folded ones give."""
    found = []
    for rewrite in (pack, fold):
        calls = calls_again()
        rewrite(calls)
        with torch.inference_mode():
            found.append(calls.program()(channels_last(images)))
    return found


def is_packed(calls):
    pack(calls)
    return bool(calls.graph.find_nodes(op="call_function", target=CONVOLUTION))


def assert_alike(packed, folded):
    assert torch.allclose(packed, folded, rtol=1e-4, atol=1e-4 * float(folded.abs().max()))


def in_whole_blocks(recipe):
    """The same network with layers of 16 and 32 units."""
    blocks, head, units = recipe
    return [(block, 16 * (1 + size % 2)) for block, size in blocks], head, units


def of_network(network, images):
    network = network.eval()
    assert_alike(*both(lambda: calls_of(torch.fx.symbolic_trace(network)), images))


def drawn(seed, count=3, size=SIZE):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipes(), st.integers(0, 2**31), st.sampled_from([1, 2, 5]))
def test_random_networks_give_the_folded_ones_logits(recipe, seed, count):
    of_network(stack(*in_whole_blocks(recipe)), drawn(seed, count))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_kind_of_block_is_packed_right(block):
    of_network(stack([(block, 16), (block, 32)], Pooled, 8), drawn(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_catalogued_networks_give_the_folded_ones_logits(name, count):
    size = {"cnn": 16, "cnn-gelu": 16}.get(name, 64 if "/" in name else 32)
    width = 0.25 if name in {"vgg16", "resnet18", "mobilenet"} else 1.0
    architecture = ArchitectureSpec(name=name, classes=4, channels=3, image_size=size, width=width)
    weights = initial_network(architecture, 1).state_dict()
    packed, folded = both(lambda: traced_calls(architecture, weights), drawn(2, count, size))
    assert is_packed(traced_calls(architecture, weights))
    assert packed.shape == folded.shape == (count, 4)
    if count:
        assert_alike(packed, folded)


class Hand(nn.Module):
    """A convolution that is called twice, one whose ReLU is not alone in reading it, and some that are not packed."""

    def __init__(self):
        super().__init__()
        self.door, self.twice = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.forked, self.named = nn.Conv2d(16, 32, 3, stride=2, dilation=2), nn.Conv2d(32, 32, 3, padding="same")
        self.apart, self.odd = nn.Conv2d(32, 32, 1, groups=2), nn.Conv2d(32, 17, 1)
        self.own = nn.Parameter(torch.randn(32, 32, 3, 3))

    def forward(self, image):
        forked = self.forked(torch.relu(self.twice(self.twice(self.door(image)))))
        called = nn.functional.conv2d(self.named(forked + torch.relu(forked)), self.own, padding=1)
        computed = nn.functional.conv2d(called, self.own * called.mean(), None, (1, 1), (1, 1), (1, 1), 1)
        return self.odd(self.apart(computed)).mean((2, 3))


def packed_calls(network):
    calls = calls_of(torch.fx.symbolic_trace(network.eval()))
    pack(calls)
    return calls


def test_what_is_packed_and_with_which_activation():
    torch.manual_seed(0)
    network = Hand()
    of_network(network, drawn(3))
    calls = packed_calls(network)
    nodes = calls.graph.find_nodes(op="call_function", target=CONVOLUTION)
    assert [node.args[7] for node in nodes] == ["none", "relu", "none"]
    assert len(calls.graph.find_nodes(op="call_function", target=torch.conv2d)) == 6
    packed = [one for one in calls.program().buffers() if one.is_mkldnn]
    assert [tuple(one.shape[:2]) for one in packed] == [(16, 16), (32, 16)]  # one for both calls of the first


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_cut_networks_are_packed_for_the_size_of_their_images(name):
    model = drawn_model(name, seed=0)
    cut = compose(model, model.labels[:2])
    body, found = network(cut).get_submodule("body"), {}
    calls = with_sizes(calls_of(body), unit_graph(cut.architecture))
    layers = [node for node in calls.graph.find_nodes(op="call_module") if type(calls.parts[node.target]) is nn.Conv2d]
    for node in layers:
        calls.parts[node.target].register_forward_pre_hook(
            lambda _part, given, node=node: found.update({node: tuple(given[0].shape[2:])})
        )
    body(drawn(5, 1, 32))
    assert found == {node: node.meta[READS] for node in layers}
    packed = [one for one in executable(cut, "packed")._run.buffers() if one.is_mkldnn]
    assert len(packed) == sum(calls.parts[node.target].groups == 1 for node in layers)
    assert any(count % 16 for one in packed for count in one.shape[:2])


def test_what_is_packed_stays_as_it_was():
    torch.manual_seed(0)
    network = Hand()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    packed_calls(network).program()(channels_last(drawn(4)))
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert not any(weight.is_mkldnn for weight in network.state_dict().values())


def test_it_is_for_cpus():
    assert not can_pack("cuda")
    with pytest.raises(InvalidInput, match="packed"):
        check_form("packed", "cuda")
