"""Activation vectors out of one pass, against the network as it is and autograd in plain steps."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # the usual name of this module
from torch import nn

from moda_core.architectures.catalogue import build, complete
from moda_core.structure.activations import with_activations
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.criteria import Modular


class Residual(nn.Module):
    """ReLU after a norm, after a sum, on vectors, read once and read twice, and another activation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.hidden = nn.Linear(4 * 16, 7)
        self.last = nn.Linear(7, 3)

    def forward(self, x):
        first = F.relu(self.norm(self.conv(x)), inplace=True)
        second = self.second(first)
        joined = F.relu(second + first) + second
        pooled = F.relu(F.avg_pool2d(F.leaky_relu(joined), 2))
        return self.last(F.relu(self.hidden(pooled.flatten(1))))


class Tokens(nn.Module):
    """Units on the last of three axes."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = F.gelu(self.second(F.relu(self.first(x.flatten(1, 2)))))
        return self.last(hidden.mean(1))


def recorded(network, images):
    """The logits and |y|'s means of a plain pass, every activation's output noted as it is made."""
    outputs = []

    def noted(function):
        def call(value, *arguments, **options):
            outputs.append(function(value))
            return outputs[-1]

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("relu", "leaky_relu", "gelu"):
            patch.setattr(F, name, noted(getattr(F, name)))
        logits = network(images)
    means = []
    for output in outputs:
        axis = output.dim() - 1 if isinstance(network, Tokens) else 1
        others = [other for other in range(1, output.dim()) if other != axis]
        means.append(output.abs().mean(others) if others else output.abs())
    return logits, means


def gradients(network, logits, means, images):
    """Of a loss that reads everything, with other weights at every place."""
    draw = torch.Generator().manual_seed(2)
    total = sum((t * torch.randn(t.shape, generator=draw, dtype=t.dtype)).sum() for t in (logits, *means))
    return torch.autograd.grad(total, [images, *network.parameters()])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "layers"), [(Residual, 5), (Tokens, 2)])
def test_values_and_gradients_are_those_of_the_plain_pass(kind, layers, layout):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind().double()
        shape = (2, 8, 8) if kind is Residual else (2, 4, 5)
        images = torch.randn(6, *shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    graph = UnitGraph.trace(kind(), shape)
    logits, vectors = with_activations(graph, network)(images)
    expected_logits, expected = recorded(network, images)
    assert torch.equal(logits, expected_logits)
    assert len(vectors) == len(expected) == layers
    assert all(torch.equal(a, b) for a, b in zip(vectors.values(), expected, strict=True))
    found = gradients(network, logits, list(vectors.values()), images)
    wanted = gradients(network, expected_logits, expected, images)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert all(gradient.any() for gradient in found)


def test_in_bfloat16_the_means_are_float32_and_a_unit_at_zero_gets_no_gradient():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
    images = torch.tensor([[1.0, -3.0], [2.0, 0.0]]).reshape(1, 1, 2, 2)
    model = with_activations(UnitGraph.trace(network, (1, 2, 2)), network)
    with torch.autocast("cpu", torch.bfloat16):
        _, vectors = model(images)
    (means,) = vectors.values()
    assert means.dtype == torch.float32
    assert means.tolist() == [[0.75, 0.0]]
    (gradient,) = torch.autograd.grad(means.sum(), network[0].weight)
    assert gradient.flatten().tolist() == [0.75, 0.0]


class DroppedInPlace(nn.Module):
    """An activation whose output an in-place dropout would overwrite."""

    def __init__(self, p):
        super().__init__()
        self.conv, self.last = nn.Conv2d(2, 64, 1), nn.Linear(64, 3)
        self.act, self.drop = nn.Hardswish(), nn.Dropout(p, inplace=True)

    def forward(self, x):
        hidden = self.act(self.conv(x).mean([2, 3]))
        self.drop(hidden)
        return self.last(hidden)


def test_in_place_dropout_drops_in_training_alone_and_leaves_the_activation_as_it_was():
    network = DroppedInPlace(1.0)
    graph = UnitGraph.trace(network, (2, 4, 4))
    images = torch.randn(5, 2, 4, 4)
    logits, vectors = with_activations(graph, network)(images)
    assert torch.equal(logits, network.last.bias.expand(5, 3))
    expected = F.hardswish(network.conv(images).mean([2, 3])).abs()
    torch.testing.assert_close(vectors[graph.layers[0].name], expected)
    (logits.sum() + vectors[graph.layers[0].name].sum()).backward()
    assert network.conv.weight.grad.abs().sum() > 0
    whole = MaskedModel(graph, network, {graph.layers[0].name: torch.ones(64, dtype=torch.bool)}, [0, 1, 2])
    torch.testing.assert_close(whole.eval()(images), network.eval()(images))


def test_an_in_place_dropout_keeps_its_probability():
    torch.manual_seed(0)
    network = DroppedInPlace(0.25).train()
    nn.init.eye_(network.last.weight)
    graph = UnitGraph.trace(network, (2, 4, 4))
    images = torch.randn(5, 2, 4, 4)
    torch.manual_seed(1)
    logits, _ = with_activations(graph, network)(images)
    torch.manual_seed(1)
    torch.testing.assert_close(logits, network(images))


def test_a_catalogue_network_with_in_place_dropout_takes_a_modular_step():
    architecture = complete("torchvision/mobilenet_v3_small", classes=3, channels=3, image_size=32)
    network = build(architecture)
    criterion = Modular(network, unit_graph(architecture))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    found = criterion(torch.randn(4, 3, 32, 32), torch.tensor([0, 0, 1, 2]))
    found.loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert found.loss.isfinite()
    assert len(found.terms) == 3
    assert any(not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
