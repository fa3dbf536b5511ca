"""A small MwT model of digits, and how well a network knows them."""

import torch

from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.modules import ModuleMasks
from moda_core.baselines.mwt.training import initial_mwt, mwt_model
from moda_core.baselines.mwt.tuning import FineTuningSpec
from moda_core.data.digits import load_digits
from moda_core.training.evaluation import accuracy, logits

DIGITS = load_digits()
LABELS = DIGITS.classes


def model_and_modules(name="cnn", width=0.5):
    """Random weights, and modules that keep about half of the kernels."""
    spec = complete(name, classes=10, channels=1, width=width, image_size=8)
    network, draw = initial_mwt(spec, 0), torch.Generator().manual_seed(0)
    masks = {
        label: {layer.name: torch.rand(layer.units, generator=draw) < 0.5 for layer in network.graph.layers}
        for label in LABELS
    }
    model = mwt_model(network, spec, LABELS, DIGITS.input_spec(8))
    return model, ModuleMasks(masks, {label: {} for label in LABELS})


def recipe(**changes):
    return FineTuningSpec(**{"crop_padding": 0, "batch_size": 32} | changes)


def right(network, images):
    return accuracy(logits(network, images, network.inputs, device="cpu"), images.labels)


def equal(first, second):
    states = second.state_dict()
    return all(torch.equal(tensor, states[name]) for name, tensor in first.state_dict().items())
