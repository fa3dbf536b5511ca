"""The benchmark of training: the naive way is the same objective, and the table has what it promises."""

import pytest
import torch

from benchmarks import overhead_steps
from benchmarks.overhead_steps import Naive, cosines, measure, noise
from moda_core.errors import InvalidInput
from moda_core.specs import ArchitectureSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.criteria import Modular
from moda_core.training.initial import initial_network


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_the_naive_way_has_the_same_objective(name):
    architecture = ArchitectureSpec(name=name, classes=3, width=0.125, image_size=16)
    draw = torch.Generator().manual_seed(0)
    pixels, labels = torch.randn(9, 3, 16, 16, generator=draw), torch.arange(9) % 3
    network = initial_network(architecture, 0).train()
    found = Naive(network)(pixels, labels)
    expected = Modular(network, unit_graph(architecture), weighting="pair")(pixels, labels)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_cosines_are_those_of_every_pair_in_autocast_too():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(7, 5, generator=draw)
    vectors[3] = 0
    vectors[4] *= 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines(vectors)
    expected = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_row_for_each_way_with_its_ratio_to_standard():
    rows = measure("cnn", images=noise(40, channels=1, size=16), batch_size=16, epochs=2)
    assert [row["way"] for row in rows] == ["standard", "modular", "naive"]
    assert [row["steps"] for row in rows] == [4, 4, 4]  # the last batch, of another size, is left out
    assert (rows[0]["ratio"], rows[0]["processor ratio"]) == (1, 1)
    for row in rows:
        assert row["images/s"] == pytest.approx(16 / row["step ms"] * 1000)
        assert row["share of peak"] is None


def test_too_few_images_are_refused_with_the_least_number():
    with pytest.raises(InvalidInput, match="at least 16 images"):
        measure("cnn", images=noise(15, channels=1, size=16), batch_size=16)


def test_each_way_is_first_as_often_as_the_others(monkeypatch):
    order = []

    def noted(step, part, times):
        if times == 1:  # not while it warms up
            order.append(step)

    monkeypatch.setattr(overhead_steps, "_repeat", noted)
    measure("cnn", images=noise(48, channels=1, size=16), batch_size=16, epochs=1)
    first, second, third = order[:3]
    assert order == [first, second, third, second, third, first, third, first, second]
