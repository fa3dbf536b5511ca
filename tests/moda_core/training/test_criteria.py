import pytest
import torch
from torch import nn

from moda_core.errors import Untraceable
from moda_core.specs import TrainingSpec
from moda_core.structure.unitgraph import UnitGraph
from moda_core.training.criteria import Modular, Standard, criterion_of
from moda_core.training.distributed import Ranks
from moda_core.training.objectives import modular_losses


def network():
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), nn.ReLU(), nn.Linear(5, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.2, generator=draw)
    return model


def batch():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(9, 1, 8, 8, generator=draw), torch.arange(9) % 3


def test_the_standard_criterion_is_cross_entropy_and_names_no_term():
    model, (pixels, labels) = network(), batch()
    logits, loss, cross_entropy, terms = Standard(model)(pixels, labels)
    assert torch.equal(logits, model(pixels))
    assert torch.equal(loss, nn.functional.cross_entropy(logits, labels))
    assert torch.equal(cross_entropy, loss)
    assert terms.tolist() == []


def test_the_modular_criterion_is_equation_7_over_the_layers():
    model, (pixels, labels) = network(), batch()
    graph = UnitGraph.trace(model, (1, 8, 8))
    logits, loss, cross_entropy, terms = Modular(model, graph, alpha=0.5, beta=2.0, gamma=0.25)(pixels, labels)
    assert torch.equal(cross_entropy, nn.functional.cross_entropy(logits, labels))
    first = model[:2](pixels)
    layers = {"first": first.abs().mean((2, 3)), "second": model[:5](pixels)}
    losses = modular_losses(layers, labels, 3)
    expected = torch.stack((losses.affinity, losses.dispersion, losses.compactness))
    torch.testing.assert_close(terms, expected)
    weighted = 0.5 * expected[0] + 2.0 * expected[1] + 0.25 * expected[2]
    torch.testing.assert_close(loss, cross_entropy + weighted)
    assert Modular.terms == ("affinity", "dispersion", "compactness")


class Twice(Ranks):
    """Another rank that has the very same share."""

    def total(self, part):
        return 2 * part


def test_two_ranks_with_the_same_share_have_the_loss_of_the_batch_twice():
    model, (pixels, labels) = network(), batch()
    graph = UnitGraph.trace(model, (1, 8, 8))
    _, *found = Modular(model, graph, ranks=Twice(0, 2))(pixels, labels)
    _, *expected = Modular(model, graph)(pixels.repeat(2, 1, 1, 1), labels.repeat(2))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found[-1], Modular(model, graph)(pixels, labels).terms)


def test_a_spec_names_its_criterion():
    model = network()
    graph = UnitGraph.trace(model, (1, 8, 8))
    recipe = {"dataset": "d", "architecture": "cnn"}
    modular = criterion_of(
        TrainingSpec(**recipe, alpha=0.5, beta=2.0, gamma=0.0, weighting="pair", compactness="sum"), model, graph
    )
    assert isinstance(modular, Modular)
    assert (modular.weights, modular.weighting, modular.compactness) == ((0.5, 2.0, 0.0), "pair", "sum")
    assert isinstance(criterion_of(TrainingSpec(**recipe, objective="standard"), model, None), Standard)
    with pytest.raises(Untraceable):
        criterion_of(TrainingSpec(**recipe), model, None)
