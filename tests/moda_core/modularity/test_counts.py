"""Counts against a naive loop over samples and units."""

import pytest
import torch

from moda_core.data.dataset import Images
from moda_core.data.images import fit, normalise
from moda_core.errors import Cancelled, InvalidInput
from moda_core.modularity.counts import count_activations
from moda_core.modularity.models import TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

RULE = InputSpec(image_size=16, channels=1, mean=(0.5,), std=(0.25,))
ARCHITECTURE = ArchitectureSpec(name="cnn", classes=3, channels=1, image_size=16, width=0.25)


def trained():
    return TrainedModel(ARCHITECTURE, ("a", "b", "c"), RULE, initial_network(ARCHITECTURE, 0).state_dict())


def images(labels, size=16):
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (len(labels), 1, size, size), generator=draw).to(torch.uint8)
    return Images(pixels, torch.tensor(labels))


def test_counts_are_those_of_a_loop_over_samples():
    model, some = trained(), images([0, 2, 2, 0, 2, 0, 0])
    counts = count_activations(model, some, batch_size=3)
    assert counts.samples == (4, 0, 3)
    assert {layer: count.tolist() for layer, count in counts.counts.items()} == looped(model, some)


def looped(model, some):
    """One image at a time through the network's own modules, every unit looked at by itself."""
    network = initial_network(ARCHITECTURE, 0)
    network.load_state_dict(dict(model.weights))
    network.eval()
    outputs = []
    for part in network.modules():
        if isinstance(part, torch.nn.ReLU):
            part.register_forward_hook(lambda _part, _inputs, output: outputs.append(output.detach().clone()))
    layers = unit_graph(ARCHITECTURE).layers
    totals = {layer.name: [[0] * layer.units for _ in range(3)] for layer in layers}
    for pixels, label in zip(some.pixels, some.labels.tolist(), strict=True):
        outputs.clear()
        network(normalise(fit(pixels[None], RULE), RULE))
        for layer, output in zip(layers, outputs, strict=True):
            for unit in range(layer.units):
                totals[layer.name][label][unit] += int(bool((output[0, unit] != 0).any()))
    return totals


def test_counts_do_not_depend_on_the_batch_size():
    model, some = trained(), images([0, 1, 2] * 4)
    one, many = count_activations(model, some, batch_size=1), count_activations(model, some, batch_size=12)
    assert all(torch.equal(one.counts[layer], many.counts[layer]) for layer in many.counts)


def test_a_greater_epsilon_counts_less():
    model, some = trained(), images([0, 1, 2] * 2)
    small, large = count_activations(model, some), count_activations(model, some, epsilon=0.5)
    assert all((large.counts[layer] <= small.counts[layer]).all() for layer in small.counts)
    assert any((large.counts[layer] < small.counts[layer]).any() for layer in small.counts)
    assert large.epsilon == 0.5


def test_counting_without_an_epsilon_is_refused_where_activations_never_reach_zero():
    architecture = ArchitectureSpec(name="torchvision/convnext_tiny", classes=2, channels=3, image_size=32)
    rule = InputSpec(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InvalidInput, match=r"epsilon.*never reach zero"):
        count_activations(TrainedModel(architecture, ("a", "b"), rule, {}), images([0, 1]))


def test_counting_stops_when_it_is_cancelled():
    with pytest.raises(Cancelled):
        count_activations(trained(), images([0, 1, 2]), cancelled=lambda: True)
