"""Shapes and operations as torch itself has them, and no compiler imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from moda_core.architectures.catalogue import build, complete
from moda_core.structure.counting import OperationCounter

ROOT = Path(__file__).parents[3]
CONVOLUTIONAL = ("lenet5", "cnn", "cnn-gelu", "vgg16", "resnet18", "mobilenet")


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, device="meta", dtype=dtype)


def channels_last(*shape):
    return meta(*shape).to(memory_format=torch.channels_last)


CALLS = {
    "convolution": lambda: F.conv2d(meta(3, 4, 11, 9), meta(6, 4, 3, 2), meta(6)),
    "strided and padded": lambda: F.conv2d(meta(3, 4, 11, 9), meta(6, 4, 3, 2), None, (3, 2), (2, 1), 1),
    "dilated, in groups": lambda: F.conv2d(meta(3, 4, 11, 9), meta(6, 2, 3, 2), None, 1, 0, (2, 3), 2),
    "depthwise": lambda: F.conv2d(meta(3, 4, 11, 9), meta(4, 1, 3, 3), None, 1, 1, 1, 4),
    "padded to the same size": lambda: nn.Conv2d(4, 6, 3, padding="same", device="meta")(meta(3, 4, 11, 9)),
    "one axis": lambda: F.conv1d(meta(3, 4, 11), meta(6, 4, 3), None, 2),
    "three axes": lambda: F.conv3d(meta(3, 4, 7, 6, 5), meta(6, 4, 3, 2, 1)),
    "one image": lambda: F.conv2d(meta(4, 11, 9), meta(6, 4, 3, 2)),
    "transposed": lambda: F.conv_transpose2d(meta(3, 4, 11, 9), meta(4, 6, 3, 2), None, 2),
    "double": lambda: F.relu(F.conv2d(meta(3, 4, 5, 5, dtype=torch.double), meta(6, 4, 1, 1, dtype=torch.double))),
    "too many channels": lambda: F.conv2d(meta(3, 5, 11, 9), meta(6, 4, 3, 2)),
    "too large a kernel": lambda: F.conv2d(meta(3, 4, 2, 9), meta(6, 4, 3, 2)),
    "convolution of no channels": lambda: F.conv2d(meta(3, 0, 5, 5), meta(6, 0, 3, 3)),
    "convolution, channels last": lambda: F.conv2d(channels_last(3, 4, 11, 9), meta(6, 4, 3, 2)),
    "convolution by channels last": lambda: F.conv2d(meta(3, 4, 11, 9), channels_last(6, 4, 3, 2)),
    "batch norm": lambda: F.batch_norm(meta(3, 4, 5, 5), meta(4), meta(4), meta(4), meta(4)),
    "batch norm in training": lambda: F.batch_norm(meta(3, 4, 5, 5), meta(4), meta(4), training=True),
    "batch norm of vectors": lambda: F.batch_norm(meta(3, 4), meta(4), meta(4)),
    "batch norm of others": lambda: F.batch_norm(meta(3, 4, 5, 5), meta(6), meta(6), meta(6), meta(6)),
    "max pool": lambda: F.max_pool2d(meta(3, 4, 11, 9), 2),
    "max pool, all said": lambda: F.max_pool2d(meta(3, 4, 11, 9), (3, 2), (2, 1), (1, 0), (2, 1)),
    "max pool, one number each": lambda: F.max_pool2d(meta(3, 4, 11, 9), [3], [2], [1], [1]),
    "max pool, rounding up": lambda: F.max_pool2d(meta(3, 4, 11, 9), 2, ceil_mode=True),
    "max pool, padded too much": lambda: F.max_pool2d(meta(3, 4, 11, 9), 2, padding=2),
    "max pool, channels last": lambda: F.max_pool2d(channels_last(3, 4, 11, 9), 2),
    "max pool's places": lambda: F.max_pool2d(meta(3, 4, 11, 9), 2, return_indices=True)[1],
    "max pool of one image": lambda: F.max_pool2d(meta(4, 11, 9), 2),
    "max pool of less than a window": lambda: F.max_pool2d(meta(3, 4, 1, 9), 2),
    "adaptive pool": lambda: F.adaptive_avg_pool2d(meta(3, 4, 11, 9), (7, 2)),
    "adaptive pool of one image": lambda: F.adaptive_avg_pool2d(meta(4, 11, 9), (7, 2)),
    "mean": lambda: meta(3, 4, 5, 6).mean((2, -1)),
    "mean that keeps axes": lambda: meta(3, 4, 5, 6).mean((-2, 3), keepdim=True),
    "mean in another type": lambda: meta(3, 4, 5, 6).mean(1, dtype=torch.double),
    "mean of all": lambda: meta(3, 4).mean(),
    "mean over an axis twice": lambda: meta(3, 4, 5, 6).mean((2, -2)),
    "mean of integers": lambda: meta(3, 4, dtype=torch.int64).mean(1),
    "mean, channels last": lambda: channels_last(3, 4, 5, 6).mean(1),
    "mean of no such axis": lambda: meta(3, 4).mean(2),
    "linear": lambda: F.linear(meta(3, 4), meta(5, 4), meta(5)),
    "linear without bias": lambda: F.linear(meta(3, 4), meta(5, 4)),
    "linear of others": lambda: F.linear(meta(3, 4), meta(5, 6), meta(5)),
    "linear of two types": lambda: F.linear(meta(3, 4), meta(5, 4, dtype=torch.double), meta(5, dtype=torch.double)),
    "scaled product": lambda: torch.addmm(meta(5), meta(3, 4), meta(4, 5), beta=0.5),
    "sum": lambda: meta(3, 4) + meta(3, 4),
    "sum of two types": lambda: meta(3, 4) + meta(3, 4, dtype=torch.double),
    "sum of two shapes": lambda: meta(3, 1) + meta(4),
    "sum of no two": lambda: meta(3, 2) + meta(4),
    "sum with a number": lambda: meta(3, 4) + 1,
    "scaled sum": lambda: torch.add(meta(3, 4), meta(3, 4), alpha=2),
    "sum of two layouts": lambda: meta(3, 4, 5, 6) + channels_last(3, 4, 5, 6),
    "sum on two devices": lambda: meta(3, 4) + torch.ones(3, 4),
    "activation of a permuted image": lambda: F.relu(meta(3, 5, 6, 4).permute(0, 3, 1, 2)),
    "activations": lambda: F.relu(F.gelu(F.gelu(meta(3, 4), approximate="tanh"))),
    "attention": lambda: F.scaled_dot_product_attention(meta(2, 3, 4, 5), meta(2, 3, 6, 5), meta(2, 3, 6, 7)),
}


def told(call, counter, flops):
    """Shape, type, layout and operations of a call's result, or its error."""
    with torch.enable_grad(), counter:
        try:
            result = call()
        except (RuntimeError, IndexError) as error:
            return type(error), str(error)
    return tuple(result.shape), result.dtype, result.device.type, result.stride(), flops(counter)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_has_the_shape_the_operations_and_the_error_that_torch_gives_it(call):
    torchs = told(call, FlopCounterMode(display=False), FlopCounterMode.get_total_flops)
    assert told(call, OperationCounter(), lambda counter: counter.flops) == torchs


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_whole_networks_count_as_torch_counts_them(name, training):
    architecture = complete(name, classes=7, channels=3)
    network = build(architecture, device="meta").train(training)
    image = meta(5, 3, architecture.image_size, architecture.image_size)
    torchs = told(lambda: network(image), FlopCounterMode(display=False), FlopCounterMode.get_total_flops)
    assert told(lambda: network(image), OperationCounter(), lambda counter: counter.flops) == torchs
    assert torchs[0] == (5, 7)


def test_our_convolutional_networks_run_without_the_compiler_whole_composed_and_mixed():
    program = f"""
import sys, torch
from decimal import Decimal
from moda_core.architectures.catalogue import build, complete
from moda_core.inference.executables import executable
from moda_core.inference.mixing import MixedModel, stacked, subset
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, TrainedModel
from moda_core.modularity.modules import decomposed
from moda_core.specs import InputSpec
from moda_core.structure.unitgraph import unit_graph

labels = ("a", "b", "c")
for name in {CONVOLUTIONAL}:
    architecture = complete(name, classes=3, channels=3)
    size = architecture.image_size
    rule = InputSpec(image_size=size, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    layers = unit_graph(architecture).layers
    counts = ActivationCounts(
        counts={{layer.name: torch.full((3, layer.units), 9, dtype=torch.int32) for layer in layers}},
        units={{layer.name: torch.arange(layer.units) for layer in layers}},
        samples=(9, 9, 9),
    )
    trained = TrainedModel(architecture, labels, rule, build(architecture).state_dict())
    model = decomposed(trained, counts, Decimal("0.9"))
    pixels = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    executable(model, "folded", "cpu")(pixels)
    executable(compose(model, model.labels[:2]), "folded", "cpu")(pixels)
    masks = stacked([subset(model, model.labels[:2], model.threshold)], "cpu")
    MixedModel(model, "folded", "cpu")(pixels, masks)
    print(name, [one for one in ("sympy", "torch._dynamo", "torchvision") if one in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in CONVOLUTIONAL]
