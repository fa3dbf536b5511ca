"""Lowered equals folded, in float32: random networks, our own and torchvision's, cut ones and regulated ones."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, SIZE, ActivatedHeads, Attention, Convolved, Flattened, Pooled, recipes, stack
from torch import nn

from benchmarks.drawn import drawn_model
from moda_core.errors import InvalidInput
from moda_core.inference import executables
from moda_core.inference.components import Component
from moda_core.inference.executables import can_lower, check_form, executable, lowered_component
from moda_core.inference.folding import fold
from moda_core.inference.graphs import calls_of, traced_calls
from moda_core.inference.lowering import lowered
from moda_core.inference.mixing import MixedModel, stacked, subset
from moda_core.inference.selection import Selection
from moda_core.inference.values import NotLowered
from moda_core.modularity.composition import compose
from moda_core.modularity.models import TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.training.initial import initial_network

NAMES = [
    "vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu", "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_small", "torchvision/densenet121",
    "torchvision/regnet_x_400mf", "torchvision/inception_v3",
]  # fmt: skip
CONVOLUTIONAL = [block for block in BLOCKS if block not in {ActivatedHeads, Attention}]
HEADS = [Pooled, Flattened, Convolved]
RULE = InputSpec(image_size=SIZE, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def drawn(seed, count=3, size=SIZE):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw).to(torch.uint8)


def folded_calls(network):
    calls = calls_of(torch.fx.symbolic_trace(network.eval()))
    fold(calls)
    return calls


def answers(calls_again, pixels, rule=RULE):
    """What the lowered calls and the folded ones give."""
    with torch.inference_mode():
        folded = Component(rule, calls_again().program(), torch.float32)(pixels)
    return lowered_component(rule, calls_again())(pixels), folded


def assert_alike(found, expected):
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def of_network(network, pixels):
    assert_alike(*answers(lambda: folded_calls(network), pixels))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipes(CONVOLUTIONAL, HEADS), st.integers(0, 2**31), st.sampled_from([1, 2, 5]))
def test_random_networks_give_the_folded_ones_logits(recipe, seed, count):
    of_network(stack(*recipe), drawn(seed, count))


@pytest.mark.parametrize("block", CONVOLUTIONAL)
def test_every_kind_of_block_is_lowered_right(block):
    of_network(stack([(block, 5), (block, 32)], Pooled, 8), drawn(1))


@pytest.mark.parametrize("name", NAMES)
def test_catalogued_networks_give_the_folded_ones_logits(name):
    size = {"cnn": 16, "cnn-gelu": 16, "torchvision/inception_v3": 96}.get(name, 64 if "/" in name else 32)
    width = 0.25 if name in {"vgg16", "resnet18", "mobilenet"} else 1.0
    architecture = ArchitectureSpec(name=name, classes=4, channels=3, image_size=size, width=width)
    weights = initial_network(architecture, 1).state_dict()
    rule = InputSpec(image_size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)

    def calls():
        made = traced_calls(architecture, weights)
        fold(made)
        return made

    assert_alike(*answers(calls, drawn(2, 3, size), rule))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "vgg16"])
@pytest.mark.parametrize("kept", [1, 3, 10])
def test_compositions_give_the_folded_ones_logits(name, kept):
    model = drawn_model(name, seed=0)
    cut = compose(model, model.labels[:kept])
    pixels = drawn(3, 2, cut.input.image_size)
    assert_alike(executable(cut, "onnxruntime")(pixels), executable(cut)(pixels))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_each_sample_meets_its_own_mask(name):
    model = drawn_model(name, seed=0)
    mixed, labels = MixedModel(model, "onnxruntime"), [model.labels[:1], model.labels[2:5], model.labels[::-1][:4]]
    subsets, pixels = [subset(model, one) for one in labels], drawn(4, 3, model.input.image_size)
    logits = mixed(pixels, stacked(subsets))
    for row, (one, chosen) in enumerate(zip(labels, subsets, strict=True)):
        expected = executable(compose(model, one))(pixels[row : row + 1])[0]
        assert_alike(logits[row][list(chosen.columns)], expected)


class Hand(nn.Module):
    """Operators that the catalogue has seldom."""

    def __init__(self):
        super().__init__()
        self.door, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=1), nn.BatchNorm2d(8)
        self.forked, self.pool = nn.Conv2d(8, 8, 1, bias=False), nn.AvgPool2d(2, count_include_pad=False)
        self.gate, self.head = (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid()),
            nn.Linear(16, 5),
        )

    def forward(self, image):
        value = self.door(image)
        value = self.norm(torch.nn.functional.gelu(value, approximate="tanh"))
        gated = self.gate(value) * torch.sigmoid(self.forked(value)) + 0.5
        pooled = nn.functional.max_pool2d(self.pool(gated), (2, 1), stride=1)
        both = torch.cat([pooled, nn.functional.hardswish(pooled)], 1)
        return self.head(both.mean((2, 3)) * 2)


def test_what_is_seldom_is_lowered_right_too():
    torch.manual_seed(0)
    network = Hand().eval()
    network.norm.running_mean.uniform_(-1, 1)
    of_network(network, drawn(5))


class Called(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.part, self.call = nn.Conv2d(3, 4, 3), call
        self.weight, self.number = nn.Parameter(torch.ones(2, 4, 1, 1)), nn.Parameter(torch.ones(3))
        self.linear, self.coarse = nn.Linear(6, 2), nn.Parameter(torch.ones(4, 1, 1).half())

    def forward(self, image):
        return self.call(self, self.part(image))


REFUSED = {
    "rounds sizes up": lambda _, value: nn.functional.max_pool2d(value, 2, ceil_mode=True),
    "number of its own": lambda _, value: nn.functional.avg_pool2d(value, 2, divisor_override=3),
    "a pool to": lambda _, value: nn.functional.adaptive_avg_pool2d(value, 2),
    "no operator is known": lambda _, value: torch.cumsum(value, 1),
    "other arguments": lambda _, value: torch.cat([value, value], dim=1, out=None),
    "flattened from 2": lambda _, value: value.flatten(2),
    "not the batch's": lambda _, value: value.reshape(value.size(0), value.size(1), -1),
    "computed weight": lambda part, value: nn.functional.conv2d(value, torch.relu(part.weight * value.mean((0, 2, 3)))),
    "linear layer": lambda part, value: part.linear(value),
    "for height and width": lambda _, value: nn.functional.max_pool2d(value, (2,)),
    "shape that is computed": lambda _, value: value.reshape(4, value.size(0), -1),
    "otherwise than for every": lambda part, value: part.number.expand(value.size(0), -1),
    "a tensor of torch.float16": lambda part, value: value * part.coarse,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_onnx_has_otherwise_is_refused(said):
    with pytest.raises(NotLowered, match=said):
        lowered(RULE, folded_calls(Called(REFUSED[said])))


def test_sizes_of_what_is_no_batch_any_more_are_refused():
    """ONNX takes a size of the value that is reshaped, torch that of the image."""
    calls = folded_calls(Called(lambda _, value: value.reshape(-1, 9).reshape(value.size(0), -1)))
    with pytest.raises(NotLowered, match="shape that is computed"):
        lowered(RULE, calls)


def test_one_samples_value_is_spread_over_the_batch():
    network = Called(lambda part, value: (part.weight.expand(value.size(0), -1, -1, -1) * value).flatten(1))
    network.weight.data = torch.randn(1, 4, 1, 1)
    of_network(network, drawn(10))


def test_what_onnx_runtime_does_not_take_is_refused_in_its_words():
    with pytest.raises(InvalidInput, match="ONNX Runtime does not take"):
        lowered_component(RULE, folded_calls(Called(lambda _, value: value.narrow(1, 0, 4) + value.reshape(-1, 7))))


def test_a_network_with_other_operators_does_not_have_the_form():
    architecture = ArchitectureSpec(name="vit", classes=4, channels=3, image_size=32)
    model = TrainedModel(architecture, tuple("abcd"), RULE, initial_network(architecture, 1).state_dict())
    with pytest.raises(InvalidInput, match="choose folded"):
        executable(model, "onnxruntime")


def test_large_weights_stay_outside_the_file_and_each_is_there_once():
    torch.manual_seed(0)
    shared = nn.Conv2d(16, 16, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(3, 16, 1), shared, nn.ReLU(), shared, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = lowered(RULE, folded_calls(network))
    assert [tuple(weight.shape) for weight in found.weights.values()] == [(16, 16, 3, 3)]
    assert len(found.file) < 4096


def test_what_a_session_takes_is_counted_however_small_its_weights_are():
    small = lowered_component(RULE, folded_calls(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())))
    model = drawn_model("resnet18", seed=0)
    folded = executable(model).size_bytes
    assert small.size_bytes > 100_000
    assert folded < executable(model, "onnxruntime").size_bytes < 1.01 * folded


def test_the_network_that_was_lowered_stays_as_it_was():
    torch.manual_seed(0)
    network = Hand().eval()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    lowered_component(RULE, folded_calls(network))(drawn(6))
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_pixels_may_lie_anyhow_and_be_none():
    model = drawn_model("resnet18", seed=0)
    asked, pixels = executable(model, "onnxruntime"), drawn(7, 4, 32)
    expected = asked(pixels)
    assert torch.equal(asked(pixels.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(asked(torch.from_numpy(np.ascontiguousarray(pixels.numpy()[::-1]))).flip(0), expected)
    assert asked(pixels[:0]).shape == (0, 10)


def test_threads_may_call_at_the_same_time():
    asked, pixels = executable(drawn_model("resnet18", seed=0), "onnxruntime"), drawn(8, 8, 32)
    expected = asked(pixels)
    with ThreadPoolExecutor(4) as threads:
        assert all(torch.equal(found, expected) for found in threads.map(asked, [pixels] * 12))


class Overwriting(nn.Module):
    """What it reads is read again, by its own name or another, after it was overwritten."""

    def __init__(self, door):
        super().__init__()
        self.part, self.door = nn.Conv2d(3, 4, 3), door

    def forward(self, image):
        value = self.part(image)
        return (torch.relu_(self.door(value)).flatten(1) + value.flatten(1)).reshape(image.size(0), -1)


@pytest.mark.parametrize("door", [lambda value: value, lambda value: value.reshape(value.size(0), 4, 6, 6)])
def test_what_is_read_after_it_was_overwritten_is_refused(door):
    with pytest.raises(NotLowered, match="overwritten"):
        lowered(RULE, folded_calls(Overwriting(door)))


@pytest.mark.parametrize("given", [8, 300])
@pytest.mark.parametrize("gaps", [False, True])
def test_channels_are_selected_with_and_without_gaps(given, gaps):
    sources = torch.tensor([3, -1, 0, 7] if gaps else [3, 0, 7])
    selection = Selection(sources, given, 1, torch.empty(0))

    class Selecting(nn.Module):
        def __init__(self):
            super().__init__()
            self.door, self.selection = nn.Conv2d(3, given, 1), selection
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, image):
            value = self.door(image)
            pooled = self.pool(value).flatten(1)
            return torch.cat([self.selection(value).flatten(1), self.selection(pooled)], 1)

    class Leaving(torch.fx.Tracer):
        def is_leaf_module(self, part, name):
            return isinstance(part, Selection) or super().is_leaf_module(part, name)

    network = Selecting().eval()

    def calls():
        made = calls_of(torch.fx.GraphModule(network, Leaving().trace(network)))
        fold(made)
        return made

    assert_alike(*answers(calls, drawn(9)))


def test_it_is_for_cpus_that_have_its_libraries(monkeypatch):
    assert not can_lower("cuda")
    with pytest.raises(InvalidInput, match="onnxruntime"):
        check_form("onnxruntime", "cuda")
    monkeypatch.setattr(executables, "find_spec", lambda name: None if name == "onnx" else sys)
    assert not can_lower("cpu")
