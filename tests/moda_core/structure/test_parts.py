"""Parts of a value along its channels and along other axes: by hand, and sliced against masked."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.proof import cut
from moda_core.structure.masking import MaskedModel
from moda_core.structure.parts import picked
from moda_core.structure.slicing import plan
from moda_core.structure.tracing import TRACED_BATCH
from moda_core.structure.unitgraph import UnitGraph

UNITS = 6
MASK = [True, False, True, True, False, True]


class Parted(nn.Module):
    """Six units, a part of them, two logits of its mean over positions."""

    def __init__(self, part, columns):
        super().__init__()
        self.conv, self.head, self.part = nn.Conv2d(3, UNITS, 1), nn.Linear(columns, 2), part

    def forward(self, x):
        return self.head(self.part(F.relu(self.conv(x))))


def first_half(y):
    return y.chunk(2, dim=1)[0].mean([2, 3])


def short_last_chunk(y):
    return torch.chunk(y, 4, -3)[2].mean([2, 3])


def second_pair(y):
    return y.split(2, dim=1)[1].mean([2, 3])


def last_four(y):
    return torch.split(y, [2, 4], 1)[1].mean([2, 3])


def bounded(y):
    return y[:, 1:4].mean([2, 3])


def one_row_of_pixels(y):
    return y[:, :, 1].mean(2)


def two_columns_of_pixels(y):
    return y.narrow(3, 0, 2).mean([2, 3]) + y[:, :, :, -2:].mean([2, 3])


def one_pixel(y):
    return y.select(2, -1).unbind(2)[0]


def pixels_before_the_batch(y):
    return y.permute(2, 0, 3, 1)[1].transpose(1, 2).mean(2)


def every_second(y):
    return y[:, ::2].mean([2, 3])


def all_images(y):
    return y[:].mean([2, 3])


def images_up_to_a_bound(y):
    return y[:1000].mean([2, 3])


def first_section_of_images(y):
    return y.split(64)[0].mean([2, 3])


def only_chunk_of_images(y):
    return y.chunk(1)[0].mean([2, 3])


def all_images_on_the_second_axis(y):
    return y.transpose(0, 1)[:, :].transpose(0, 1).mean([2, 3])


PARTS = {
    first_half: (0, 1, 2),
    short_last_chunk: (4, 5),
    second_pair: (2, 3),
    last_four: (2, 3, 4, 5),
    bounded: (1, 2, 3),
    one_row_of_pixels: range(UNITS),
    one_pixel: range(UNITS),
    pixels_before_the_batch: range(UNITS),
}
"""Which units a part has."""
OF_THE_BATCH = (
    all_images, images_up_to_a_bound, first_section_of_images, only_chunk_of_images, all_images_on_the_second_axis,
)  # fmt: skip
UNKNOWN = {
    every_second: (0, 2, 4),
    two_columns_of_pixels: range(UNITS),
    **dict.fromkeys(OF_THE_BATCH, range(UNITS)),
}


@pytest.mark.parametrize(("part", "units"), PARTS.items())
def test_only_the_units_of_the_part_that_are_in_the_mask_are_held(part, units):
    network = Parted(part, len(units)).eval()
    graph = UnitGraph.trace(network, (3, 4, 4))
    held = plan(graph, {graph.layers[0].name: torch.tensor(MASK)}, [0, 1]).held
    living = [unit for unit in units if MASK[unit]]
    assert held["conv.weight"][0].tolist() == living
    columns = held["head.weight"]
    assert (list(range(len(units))) if columns == () else columns[1].tolist()) == [
        list(units).index(unit) for unit in living
    ]


@pytest.mark.parametrize(("part", "units"), {**PARTS, **UNKNOWN}.items())
@pytest.mark.parametrize("mask", [MASK, [False] * UNITS, [True] * UNITS])
@pytest.mark.parametrize("batch", [3, TRACED_BATCH + 7])
def test_a_sliced_part_is_the_masked_one_for_fewer_and_for_more_images_than_were_traced(part, units, mask, batch):
    network = Parted(part, len(units)).double().eval()
    graph = UnitGraph.trace(network, (3, 4, 4))
    masks, images = {graph.layers[0].name: torch.tensor(mask)}, torch.randn(batch, 3, 4, 4).double()
    with torch.inference_mode():
        expected = MaskedModel(graph, network, masks, [0, 1]).eval()(images)
        sliced = cut(plan(graph, masks, [0, 1]), network.state_dict())
        assert expected.shape == (batch, 2)
        assert torch.allclose(sliced(images), expected, rtol=1e-9, atol=1e-12)


def test_a_permuted_part_speaks_of_the_axes_before():
    graph = UnitGraph.trace(Parted(pixels_before_the_batch, UNITS), (3, 4, 4))
    (part,) = (found for node in graph.operations if (found := picked(graph.eval_trace, node)))
    assert (part.source.name, part.axis, part.start, part.length, part.order) == ("relu", 0, 1, None, (2, 0, 3, 1))
    assert [part.axis_after(axis) for axis in range(4)] == [0, 2, None, 1]
    assert [part.axis_before(axis) for axis in range(3)] == [0, 3, 1]
