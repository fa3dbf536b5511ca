"""Heads as units: which products have them, what slicing leaves of a network whose heads are masked, in every usual layout."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.proof import cut, draw_case, error
from moda_core.architectures.catalogue import complete
from moda_core.structure.activations import with_activations, with_activity
from moda_core.structure.masking import MaskedModel
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph

HEADS, WIDTH, TOKENS, EMBEDDING = 3, 4, 16, 5
INNER = HEADS * WIDTH
IMAGE = (3, 4, 4)


class Attention(nn.Module):
    """A network of one attention layer: tokens, a fused or three single projections, heads, output, classes."""

    def __init__(self, attend):
        super().__init__()
        self.stem, self.qkv = nn.Conv2d(3, EMBEDDING, 1), nn.Linear(EMBEDDING, 3 * INNER)
        self.q, self.k, self.v = (nn.Linear(EMBEDDING, INNER) for _ in range(3))
        self.bias, self.norm = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS)), nn.LayerNorm(WIDTH)
        self.drop, self.softmax = nn.Dropout(0.1), nn.Softmax(dim=-1)
        self.out, self.head = nn.Linear(INNER, EMBEDDING), nn.Linear(EMBEDDING, 2)
        self.attend = attend

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        return self.head((tokens + self.out(self.attend(self, tokens))).mean(1))


def unbound(net, x):
    q, k, v = net.qkv(x).reshape(x.shape[0], TOKENS, 3, HEADS, WIDTH).unbind(2)
    q, k, v = q.transpose(1, 2), k.permute(0, 2, 1, 3), v.transpose(1, 2)
    weights = net.drop(F.softmax(q @ k.transpose(-2, -1) / WIDTH**0.5, dim=-1))
    return (weights @ v).transpose(1, 2).reshape(x.shape[0], TOKENS, INNER)


def permuted(net, x):
    """As in timm: the axis of q, k and v goes before the batch."""
    batch, tokens, _ = x.shape
    qkv = net.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    weights = net.softmax((q * WIDTH**-0.5) @ k.transpose(-2, -1))
    return torch.matmul(weights, v).transpose(1, 2).reshape(batch, tokens, -1)


def permuted_and_indexed(net, x):
    qkv = net.qkv(x).view(x.size(0), TOKENS, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    return q.matmul(k.transpose(2, 3)).softmax(-1).matmul(v).transpose(1, 2).flatten(2)


def indexed(net, x):
    """Heads before q, k and v in the rows, and these taken by their index."""
    qkv = net.qkv(x).unflatten(2, (HEADS, 3, WIDTH)).transpose(1, 2)
    q, k, v = qkv[:, :, :, 0], qkv.select(3, 1), qkv[:, :, :, 2]
    return (torch.softmax(q @ k.transpose(2, 3), 3) @ v).transpose(1, 2).flatten(2)


def chunked(net, x):
    """q, k and v are thirds of the channels, or of one head's."""
    q, k, v = net.qkv(x).chunk(3, dim=-1)
    q, k, v = (part.unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for part in (q, k, v))
    return (torch.softmax(q @ k.transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2)


def cut_in_each_head(net, x):
    heads = net.qkv(x).unflatten(2, (HEADS, 3 * WIDTH)).transpose(1, 2)
    q, k, v = heads.split(WIDTH, dim=3)
    return (torch.softmax(q @ k.transpose(2, 3), -1) @ v.contiguous()).transpose(1, 2).flatten(2)


def three(net, x):
    q, k, v = (one(x).view(x.shape[0], -1, HEADS, WIDTH).transpose(1, 2) for one in (net.q, net.k, net.v))
    weights = torch.softmax(q @ k.transpose(-1, -2) * WIDTH**-0.5, dim=-1)
    return (weights @ v).permute(0, 2, 1, 3).contiguous().view(x.shape[0], -1, INNER)


def biased(net, x):
    """Relative positions: the sum with a parameter of another number of axes is not understood, so q and k stay whole."""
    q, k, v = (one(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for one in (net.q, net.k, net.v))
    return (torch.softmax(q @ k.transpose(2, 3) + net.bias, -1) @ v).transpose(1, 2).flatten(2)


def scaled_by_what_is_read(net, x):
    q, k, v = (one(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for one in (net.q, net.k, net.v))
    weights = torch.softmax(q @ k.transpose(2, 3) * q.size(-1) ** -0.5, -1)
    return (weights @ v).transpose(1, 2).flatten(2)


def normed(net, x):
    """A norm within each head reads all of them."""
    q, k, v = (one(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for one in (net.q, net.k, net.v))
    return (torch.softmax(net.norm(q) @ net.norm(k).transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2)


FUSED = {
    unbound: [part * INNER + head * WIDTH for part in range(3) for head in range(HEADS)],
    permuted: [part * INNER + head * WIDTH for part in range(3) for head in range(HEADS)],
    permuted_and_indexed: [part * INNER + head * WIDTH for part in range(3) for head in range(HEADS)],
    chunked: [part * INNER + head * WIDTH for part in range(3) for head in range(HEADS)],
    indexed: [(head * 3 + part) * WIDTH for part in range(3) for head in range(HEADS)],
    cut_in_each_head: [(head * 3 + part) * WIDTH for part in range(3) for head in range(HEADS)],
}
"""The first row of each part (q, k, v) and head in the fused projection, by layout."""
SEPARATE = {three: "qkv", biased: "v", scaled_by_what_is_read: "v", normed: "v"}
"""Which of the three projections are cut by heads; the others are kept whole."""


def traced(attend):
    network = Attention(attend).eval()
    return UnitGraph.trace(network, IMAGE), network


def held_of(graph, heads):
    mask = torch.zeros(HEADS, dtype=torch.bool)
    mask[heads] = True
    return plan(graph, {graph.layers[0].name: mask}, [0, 1]).held


def places(starts):
    return sorted(start + place for start in starts for place in range(WIDTH))


@pytest.mark.parametrize("attend", [*FUSED, *SEPARATE])
def test_the_product_of_softmax_and_values_is_a_layer_of_heads_that_never_reaches_zero(attend):
    graph, _ = traced(attend)
    (layer,) = graph.layers
    assert (layer.units, layer.axis, layer.reaches_zero) == (HEADS, 1, False)
    assert [one.name for one in graph.layers] == [node.name for node in graph.layer_nodes.values()]
    assert graph.train_trace.shapes


@pytest.mark.parametrize("attend", FUSED)
def test_dead_heads_leave_the_fused_projection_and_the_output_projections_columns(attend):
    graph, _ = traced(attend)
    held = held_of(graph, [0, 2])
    firsts = [start for place, start in enumerate(FUSED[attend]) if place % HEADS != 1]
    assert held["qkv.weight"][0].tolist() == held["qkv.bias"][0].tolist() == places(firsts)
    assert held["out.weight"][1].tolist() == places([0, 2 * WIDTH])
    assert held["stem.weight"] == held["head.weight"] == ()


@pytest.mark.parametrize("attend", SEPARATE)
def test_dead_heads_leave_those_of_three_projections_that_are_understood(attend):
    graph, _ = traced(attend)
    held = held_of(graph, [1])
    for name in "qkv":
        rows = held[f"{name}.weight"]
        assert (rows[0].tolist() == places([WIDTH])) if name in SEPARATE[attend] else rows == ()
    assert held["out.weight"][1].tolist() == places([WIDTH])


@pytest.mark.parametrize("attend", [*FUSED, *SEPARATE])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_the_sliced_network_gives_the_masked_ones_logits(attend, keep):
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    case = draw_case(lambda: traced(attend), keep, torch.randn(6, *IMAGE, generator=generator), generator)
    with torch.inference_mode():
        assert error(case.sliced()(case.images), case.reference) <= 1e-9


@pytest.mark.parametrize("attend", [*FUSED, *SEPARATE])
def test_with_all_heads_masked_only_the_output_projections_bias_is_left_of_attention(attend):
    graph, network = traced(attend)
    masks, images = {graph.layers[0].name: torch.zeros(HEADS, dtype=torch.bool)}, torch.randn(2, *IMAGE)
    planned = plan(graph, masks, [0, 1])
    assert not {"qkv.weight", "q.weight", "k.weight", "v.weight"} & set(planned.held)
    with torch.inference_mode():
        expected = MaskedModel(graph, network, masks, [0, 1]).eval()(images)
        assert torch.allclose(cut(planned, network.state_dict())(images), expected, atol=1e-6)


def test_a_masked_head_is_multiplied_by_zero_before_the_projection():
    """By hand: zero columns of the output projection instead of a mask."""
    graph, network = traced(unbound)
    masks, images = {graph.layers[0].name: torch.tensor([True, False, True])}, torch.randn(2, *IMAGE)
    with torch.inference_mode():
        masked = MaskedModel(graph, network, masks, [0, 1]).eval()(images)
        network.out.weight[:, WIDTH : 2 * WIDTH] = 0
        assert torch.allclose(masked, network(images), atol=1e-6)


def head_outputs(network, images):
    """What `unbound` multiplies, head by head and sample by sample."""
    tokens = network.stem(images).flatten(2).transpose(1, 2)
    outputs = torch.empty(len(images), HEADS, TOKENS, WIDTH)
    for sample, x in enumerate(tokens):
        q, k, v = network.qkv(x).split(INNER, dim=1)
        for head in range(HEADS):
            own = slice(head * WIDTH, (head + 1) * WIDTH)
            outputs[sample, head] = torch.softmax(q[:, own] @ k[:, own].T / 2, -1) @ v[:, own]
    return outputs


def test_a_heads_activation_is_its_mean_magnitude_over_tokens_and_width():
    graph, network = traced(unbound)
    images = torch.randn(3, *IMAGE)
    network.drop.p = 0.0
    _, found = with_activations(graph, network)(images)
    expected = head_outputs(network, images).detach()
    assert torch.allclose(found[graph.layers[0].name], expected.abs().mean((2, 3)), atol=1e-6)
    epsilon = float(expected.abs().amax((2, 3)).median())
    _, active = with_activity(graph, network, epsilon)(images)
    assert torch.equal(active[graph.layers[0].name], (expected.abs() > epsilon).any(3).any(2))
    assert 0 < active[graph.layers[0].name].sum() < active[graph.layers[0].name].numel()


def fused(net, x):
    q, k, v = net.qkv(x).reshape(x.shape[0], TOKENS, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def folded_into_the_batch(net, x):
    batch = x.shape[0]
    q, k, v = (one(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for one in (net.q, net.k, net.v))
    q, k, v = (part.reshape(batch * HEADS, TOKENS, WIDTH) for part in (q, k, v))
    mixed = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
    return mixed.reshape(batch, HEADS, TOKENS, WIDTH).transpose(1, 2).flatten(2)


def without_heads(net, x):
    return torch.softmax(net.q(x) @ net.k(x).transpose(1, 2), -1) @ net.v(x)


def over_the_queries(net, x):
    q, k, v = (one(x).unflatten(2, (HEADS, WIDTH)).transpose(1, 2) for one in (net.q, net.k, net.v))
    return (torch.softmax(q @ k.transpose(2, 3), 2) @ v).transpose(1, 2).flatten(2)


SIDE = 4


def rows_of_pixels(net, x):
    """Axial attention: every pixel attends to its own row of the image."""
    t = x.unflatten(1, (SIDE, SIDE))
    return (torch.softmax(net.q(t) @ net.k(t).transpose(2, 3), -1) @ net.v(t)).flatten(1, 2)


def rows_of_the_image_itself(net, x):
    """The same with values that no linear layer made."""
    t = x.unflatten(1, (SIDE, SIDE))
    return F.pad(torch.softmax(net.q(t) @ net.k(t).transpose(2, 3), -1) @ t, (0, INNER - EMBEDDING)).flatten(1, 2)


def windows_beside_each_other(net, x):
    """Windows on axis 1: divisions of the tokens, not of what a linear layer puts out."""
    q, k, v = (one(x).reshape(x.shape[0], 2, TOKENS // 2, INNER) for one in (net.q, net.k, net.v))
    return (torch.softmax(q @ k.transpose(2, 3), -1) @ v).flatten(1, 2)


@pytest.mark.parametrize(
    "attend",
    [
        fused,
        folded_into_the_batch,
        without_heads,
        over_the_queries,
        rows_of_pixels,
        rows_of_the_image_itself,
        windows_beside_each_other,
    ],
)
def test_attention_whose_heads_are_hidden_or_that_is_none_has_no_layer_and_is_computed_whole(attend):
    graph, network = traced(attend)
    assert graph.layers == ()
    images = torch.randn(3, *IMAGE)
    with torch.inference_mode():
        sliced = cut(plan(graph, {}, [0, 1]), network.state_dict())
        assert torch.allclose(sliced(images), network(images), atol=1e-6)


def test_rows_of_a_convolutions_images_are_no_heads():
    """Axial attention with channels last: the values' second axis counts the rows of the image."""

    class Axial(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.q, self.head = nn.Conv2d(3, 7, 1), nn.Linear(7, 7), nn.Linear(7, 2)

        def forward(self, x):
            t = self.conv(x).permute(0, 2, 3, 1)
            return self.head((F.softmax(self.q(t) @ t.transpose(2, 3), -1) @ t).mean([1, 2]))

    network = Axial().eval()
    graph = UnitGraph.trace(network, (3, 5, 6))
    assert graph.layers == ()
    images = torch.randn(3, 3, 5, 6)
    with torch.inference_mode():
        sliced = cut(plan(graph, {}, [0, 1]), network.state_dict())
        assert torch.allclose(sliced(images), network(images), atol=1e-6)


def test_heads_that_a_convolution_makes_are_units():
    class Convolved(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out, self.head = nn.Conv2d(3, 3 * INNER, 1), nn.Conv2d(INNER, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, HEADS, WIDTH)).unbind(1)
            mixed = torch.softmax(q.transpose(2, 3) @ k, -1) @ v.transpose(2, 3)
            joined = mixed.transpose(2, 3).reshape(x.shape[0], INNER, 4, 4)
            return self.head(F.relu(self.out(joined)).mean([2, 3]))

    torch.manual_seed(0)
    network = Convolved().double().eval()
    graph = UnitGraph.trace(network, IMAGE)
    heads, rest = graph.layers
    assert (heads.units, heads.axis) == (HEADS, 1)
    masks = {heads.name: torch.tensor([True, False, True]), rest.name: torch.ones(4, dtype=torch.bool)}
    images = torch.randn(3, *IMAGE).double()
    with torch.inference_mode():
        expected = MaskedModel(graph, network, masks, [0, 1]).eval()(images)
        assert torch.allclose(cut(plan(graph, masks, [0, 1]), network.state_dict())(images), expected, atol=1e-9)


def test_a_position_embedding_under_a_dead_sum_is_given_to_every_image():
    """The sum has its shape from the images' side, although that is zero."""

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.position = nn.Linear(3, 4), nn.Parameter(torch.randn(1, TOKENS, 4))
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head((F.relu(self.fc(x.flatten(2).transpose(1, 2))) + self.position).mean(1))

    network = Embedded().eval()
    graph = UnitGraph.trace(network, IMAGE)
    masks = {graph.layers[0].name: torch.zeros(4, dtype=torch.bool)}
    with torch.inference_mode():
        logits = cut(plan(graph, masks, [0, 1]), network.state_dict())(torch.randn(3, *IMAGE))
        assert torch.allclose(logits, network.head(network.position.mean(1)).expand(3, 2), atol=1e-6)


def test_the_small_vision_transformer_has_heads_and_mlp_units_in_each_block():
    graph = unit_graph(complete("vit", classes=4, channels=1, image_size=8, width=0.5))
    assert [(layer.units, layer.axis) for layer in graph.layers] == [(4, 1), (256, 2)] * 2


@pytest.mark.parametrize("name", ["torchvision/vit_b_16", "torchvision/swin_t", "torchvision/swin_v2_t"])
def test_torchvisions_fused_attention_has_no_heads(name):
    graph = unit_graph(complete(name, classes=4, channels=3, image_size=64))
    assert graph.layers
    assert {layer.axis for layer in graph.layers} <= {2, 3}
