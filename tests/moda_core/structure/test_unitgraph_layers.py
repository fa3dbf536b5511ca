"""Which calls are layers: the rule of the design, on torchvision's classifiers and on cases made for it."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.proof import cut
from moda_core.architectures.catalogue import build, complete
from moda_core.errors import Untraceable
from moda_core.structure.masking import MaskedModel
from moda_core.structure.slicing import plan
from moda_core.structure.tracing import is_activation
from moda_core.structure.unitgraph import UnitGraph, unit_graph

CONVOLUTIONAL = ("vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu")
OWN = (*CONVOLUTIONAL, "vit")


def graph_of(name, size=64):
    return unit_graph(complete(name, classes=4, channels=3, image_size=size))


def names(graph):
    return [layer.name for layer in graph.layers]


class Network(nn.Module):
    """A body and a linear head, both given."""

    def __init__(self, body, **parts):
        super().__init__()
        self.body = body
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.body(self, x)


def graph_where(body, **parts):
    return UnitGraph.trace(Network(body, **parts), (3, 8, 8))


@pytest.mark.parametrize(
    ("name", "gates"),
    [("efficientnet_b0", 16), ("mobilenet_v3_small", 9), ("regnet_y_400mf", 16), ("resnet50", 0), ("squeezenet1_1", 1)],
)
def test_exactly_gates_and_the_activation_on_the_logits_are_no_layers(name, gates):
    graph = graph_of(f"torchvision/{name}")
    activations = [node for node in graph.eval_trace.graph.nodes if is_activation(node)]
    assert len(activations) - len(graph.layers) == gates


def test_squeezenets_last_relu_is_on_the_logits():
    graph = graph_of("torchvision/squeezenet1_1")
    activations = [node.name for node in graph.eval_trace.graph.nodes if is_activation(node)]
    assert [name for name in activations if name not in names(graph)] == activations[-1:]


@pytest.mark.parametrize(
    "name", [*OWN, "torchvision/efficientnet_b0", "torchvision/convnext_tiny", "torchvision/swin_t"]
)
def test_training_and_evaluation_have_the_same_layers(name):
    """Stochastic depth is a call in training and none in evaluation."""
    graph = graph_of(name, 32 if name in OWN else 64)
    shapes = graph.train_trace.shapes
    nodes = {node.name: node for node in graph.train_trace.graph.nodes}
    assert [shapes[nodes[layer.name]][layer.axis] for layer in graph.layers] == [layer.units for layer in graph.layers]


@pytest.mark.parametrize("name", ["torchvision/convnext_tiny", "torchvision/swin_t"])
def test_units_are_last_where_linear_layers_make_them(name):
    graph = graph_of(name)
    assert {layer.axis for layer in graph.layers} == {3}
    assert not any(layer.reaches_zero for layer in graph.layers)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_units_of_our_own_convolutional_networks_are_on_axis_1(name):
    assert {layer.axis for layer in graph_of(name, 32).layers} == {1}


def test_an_activation_on_what_does_not_depend_on_the_image_is_no_layer():
    def body(self, x):
        bias = F.relu(self.constant.weight).sum()
        return self.head(F.relu(self.conv(x)).mean([2, 3])) + bias

    graph = graph_where(body, constant=nn.Embedding(2, 2), conv=nn.Conv2d(3, 5, 1), head=nn.Linear(5, 2))
    assert [layer.units for layer in graph.layers] == [5]


def test_an_activation_with_one_path_around_the_gate_is_a_layer():
    def body(self, x):
        squeezed = F.relu(self.down(x.mean([2, 3], keepdim=True)))
        return self.head((x * torch.sigmoid(self.up(squeezed))).mean([2, 3]) + squeezed.mean([2, 3]))

    parts = {"down": nn.Conv2d(3, 3, 1), "up": nn.Conv2d(3, 3, 1), "head": nn.Linear(3, 2)}
    assert len(graph_where(body, **parts).layers) == 1


def test_each_call_of_a_reused_activation_is_a_layer_whatever_its_form():
    def body(self, x):
        x = self.act(self.one(self.act(self.zero(x))))
        x = torch.relu(self.two(x)).mean([2, 3])
        return self.head(F.elu_(self.three(x).tanh()))

    parts = {"zero": nn.Conv2d(3, 4, 1), "one": nn.Conv2d(4, 5, 1), "two": nn.Conv2d(5, 6, 1), "three": nn.Linear(6, 7)}
    graph = graph_where(body, act=nn.ReLU(inplace=True), head=nn.Linear(7, 2), **parts)
    assert [layer.units for layer in graph.layers] == [4, 5, 6, 7, 7]
    assert [layer.reaches_zero for layer in graph.layers] == [True, True, True, False, False]


def test_an_activation_whose_first_axis_is_not_the_batch_is_refused():
    def body(self, x):
        return self.head(F.relu(self.fc(x.flatten(2).permute(1, 0, 2))).mean(0))

    with pytest.raises(Untraceable, match="batch"):
        graph_where(body, fc=nn.Linear(64, 5), head=nn.Linear(5, 2))


def test_windows_folded_into_the_batch_are_computed_whole():
    """A value [batch * windows, ...] has no rule: it is right, only larger."""

    def body(self, x):
        batch = x.shape[0]
        tokens = F.relu(self.conv(x)).flatten(2).permute(0, 2, 1)
        folded = self.fc(tokens.reshape(batch * 4, 16, 5))
        return self.head(folded.reshape(batch, 64 * 6))

    network = Network(body, conv=nn.Conv2d(3, 5, 1), fc=nn.Linear(5, 6), head=nn.Linear(64 * 6, 2)).eval()
    graph = UnitGraph.trace(network, (3, 8, 8))
    assert_agrees(graph, network, [True, False, True, False, False])


def test_a_sum_keeps_the_shape_of_its_dead_side():
    def body(self, x):
        wide = F.relu(self.one(x))
        return self.head(self.after(wide + self.two(x.mean([2, 3], keepdim=True))).mean([2, 3]))

    parts = {"one": nn.Conv2d(3, 4, 1), "two": nn.Conv2d(3, 4, 1), "after": nn.Conv2d(4, 4, 3, padding=1)}
    network = Network(body, head=nn.Linear(4, 2), **parts).eval()
    assert_agrees(UnitGraph.trace(network, (3, 8, 8)), network, [False] * 4)


def test_two_readers_that_ask_for_different_widths_get_their_own():
    """Both ask for channels 0 and 2 at places 0 and 2, one among 3 channels, the other among 4."""

    def body(self, x):
        y = F.relu(self.one(x))
        left, right = y + F.relu(self.two(x)), y + F.leaky_relu(self.three(x))
        return self.head(torch.cat([F.relu(left), F.relu(right)], 1).mean([2, 3]))

    convolutions = {name: nn.Conv2d(3, 4, 1) for name in ("one", "two", "three")}
    network = Network(body, head=nn.Linear(8, 2), **convolutions).eval()
    graph = UnitGraph.trace(network, (3, 8, 8))
    masks = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert_agrees(graph, network, *[[bool(bit) for bit in mask] for mask in masks])


def test_a_value_overwritten_under_a_second_name_is_read_as_it_is_then():
    def body(self, x):
        y = self.conv(x)
        kept = y
        y += F.relu(self.other(x))
        return self.head(F.relu(kept).mean([2, 3]))

    network = Network(body, conv=nn.Conv2d(3, 4, 1), other=nn.Conv2d(3, 4, 1), head=nn.Linear(4, 2)).eval()
    graph = UnitGraph.trace(network, (3, 8, 8))
    images = torch.randn(3, 3, 8, 8)
    everything = {layer.name: torch.ones(layer.units, dtype=torch.bool) for layer in graph.layers}
    with torch.inference_mode():
        assert torch.equal(sliced(graph, network, everything)(images), network(images))


def test_a_concatenation_of_one_value_passes_its_live_channels_on():
    """DenseNet's first layers do so."""

    def body(self, x):
        return self.head(torch.cat([F.relu(self.one(x))], 1).mean([2, 3]))

    network = Network(body, one=nn.Conv2d(3, 4, 1), head=nn.Linear(4, 2)).eval()
    graph = UnitGraph.trace(network, (3, 8, 8))
    masks = {graph.layers[0].name: torch.tensor([True, False, False, True])}
    assert plan(graph, masks, [0]).held["head.weight"][1].tolist() == [0, 3]
    assert_agrees(graph, network, [True, False, False, True])


def test_a_network_in_float64_is_traced():
    assert UnitGraph.trace(build(complete("lenet5", classes=2, channels=1)).double(), (1, 32, 32)).classes == 2


def sliced(graph, network, masks):
    return cut(plan(graph, masks, range(graph.classes)), network.state_dict())


def assert_agrees(graph, network, *masks):
    chosen = {layer.name: torch.tensor(mask) for layer, mask in zip(graph.layers, masks, strict=True)}
    images = torch.randn(3, *graph.image_shape)
    with torch.inference_mode():
        expected = MaskedModel(graph, network, chosen, range(graph.classes)).eval()(images)
        assert torch.allclose(sliced(graph, network, chosen)(images), expected, atol=1e-5)
