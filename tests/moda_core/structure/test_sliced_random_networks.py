"""Sliced equals masked, on random small networks."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, HEADS, SIZE, Pooled, recipes, stack
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.proof import MOST_ERROR, NotAlive, cut, draw_case, error
from moda_core.structure.masking import MaskedModel
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import UnitGraph

IMAGE = (3, SIZE, SIZE)
PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def alive(recipe, keep, seed, rows=None, most=3):
    """A living case of a recipe, or None where no draw gives one (small networks fall silent easily)."""
    generator = torch.Generator().manual_seed(seed)

    def build():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            network = stack(*recipe)
        return UnitGraph.trace(network, IMAGE), network

    try:
        return draw_case(build, keep, torch.randn(6, *IMAGE, generator=generator), generator, rows, most)
    except NotAlive:
        return None


def random_masks(graph, keep, generator):
    return {layer.name: torch.rand(layer.units, generator=generator) < keep for layer in graph.layers}


@PROPERTY
@given(recipes(), st.sampled_from([0.05, 0.2, 0.6]), st.integers(0, 2**31))
def test_the_sliced_model_gives_the_masked_models_logits(recipe, keep, seed):
    case = alive(recipe, keep, seed)
    if case is not None:
        with torch.inference_mode():
            assert error(case.sliced()(case.images), case.reference) <= MOST_ERROR


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("keep", [0.2, 0.6])
def test_every_kind_of_block_has_a_living_case_that_agrees(block, keep):
    case = alive(([(block, 12), (block, 9)], Pooled, 8), keep, seed=1, most=50)
    assert case is not None
    with torch.inference_mode():
        assert error(case.sliced()(case.images), case.reference) <= MOST_ERROR


@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_head_has_a_living_case_that_agrees(head):
    case = alive(([(BLOCKS[0], 12)], head, 10), 0.4, seed=2, rows=(0, 2), most=50)
    assert case is not None
    with torch.inference_mode():
        assert error(case.sliced()(case.images), case.reference) <= MOST_ERROR


@PROPERTY
@given(recipes(), st.sampled_from([0.0, 0.1, 0.3, 0.7]), st.integers(0, 2**31))
def test_masks_that_silence_layers_or_whole_networks_are_sliced_too(recipe, keep, seed):
    """Alive or not: no layer of width 0 is built, and constants come out right."""
    generator = torch.Generator().manual_seed(seed)
    network = stack(*recipe).double().eval()
    graph = UnitGraph.trace(network, IMAGE)
    masks, images = random_masks(graph, keep, generator), torch.randn(3, *IMAGE, generator=generator).double()
    sliced = cut(plan(graph, masks, [0, 2]), network.state_dict())
    with torch.inference_mode():
        expected = MaskedModel(graph, network, masks, [0, 2]).eval()(images)
        assert torch.allclose(sliced(images), expected, rtol=1e-9, atol=1e-9)
    assert all(parameter.numel() for parameter in sliced.parameters())


@PROPERTY
@given(recipes(), st.floats(0, 1), st.integers(0, 2**31))
def test_flops_are_what_torch_counts_on_the_sliced_model(recipe, keep, seed):
    network = stack(*recipe).eval()
    graph = UnitGraph.trace(network, IMAGE)
    planned = plan(graph, random_masks(graph, keep, torch.Generator().manual_seed(seed)), [1])
    sliced = cut(planned, network.state_dict())
    with FlopCounterMode(display=False) as counter:
        sliced(torch.zeros(1, *IMAGE))
    assert counter.get_total_flops() == planned.flops


@PROPERTY
@given(recipes(), st.integers(0, 2**31))
def test_what_fewer_units_hold_is_part_of_what_more_units_hold(recipe, seed):
    """The ground of closed composition: the walks are monotone in the masks and the classes."""
    generator = torch.Generator().manual_seed(seed)
    network = stack(*recipe)
    graph = UnitGraph.trace(network, IMAGE)
    more = random_masks(graph, 0.6, generator)
    fewer = {name: mask & (torch.rand(len(mask), generator=generator) < 0.6) for name, mask in more.items()}
    large, small = plan(graph, more, [0, 2]).held, plan(graph, fewer, [2]).held
    assert set(small) <= set(large)
    for name, axes in small.items():
        for axis, size in enumerate(graph.state_shapes[name]):
            assert set(kept(axes, axis, size)) <= set(kept(large[name], axis, size))


def kept(axes, axis, size):
    indices = axes[axis] if axis < len(axes) else None
    return range(size) if indices is None else indices.tolist()


@PROPERTY
@given(recipes(), st.integers(0, 2**31))
def test_without_dropping_the_same_logits_come_out_of_more_elements(recipe, seed):
    generator = torch.Generator().manual_seed(seed)
    network = stack(*recipe).double().eval()
    graph = UnitGraph.trace(network, IMAGE)
    masks, images = random_masks(graph, 0.4, generator), torch.randn(3, *IMAGE, generator=generator).double()
    lean, whole = plan(graph, masks, [1]), plan(graph, masks, [1], drop=False)
    assert lean.parameters <= whole.parameters
    with torch.inference_mode():
        expected = MaskedModel(graph, network, masks, [1]).eval()(images)
        assert torch.allclose(cut(whole, network.state_dict())(images), expected, rtol=1e-9, atol=1e-9)


@PROPERTY
@given(recipes(), st.integers(0, 2**31))
def test_with_every_unit_and_class_the_original_comes_back(recipe, seed):
    generator = torch.Generator().manual_seed(seed)
    network = stack(*recipe).double().eval()
    original = copy.deepcopy(network)
    graph = UnitGraph.trace(network, IMAGE)
    images = torch.randn(3, *IMAGE, generator=generator).double()
    everything = {layer.name: torch.ones(layer.units, dtype=torch.bool) for layer in graph.layers}
    planned = plan(graph, everything, range(graph.classes))
    with torch.inference_mode():
        assert torch.allclose(cut(planned, network.state_dict())(images), original(images), rtol=1e-12, atol=1e-12)
