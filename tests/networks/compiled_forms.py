"""More compiled models than torch compiles of one code; in a process without shape checks, which cannot be compiled.

python compiled_forms.py     fails where one is not compiled, or is compiled while it is asked
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal

import torch
from torch import Tensor, fx

from moda_core.inference.executables import executable
from moda_core.inference.mixing import MixedModel, stacked, whole
from moda_core.modularity.models import ActivationCounts, ModularModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

MODELS = 10
LABELS = ("a", "b", "c")
graphs: list[fx.GraphModule] = []


def counted(graph: fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
    """A compiler that only counts."""
    graphs.append(graph)
    return graph.forward


def modular(seed: int) -> ModularModel:
    architecture = ArchitectureSpec(name="lenet5", classes=len(LABELS), channels=1, image_size=16)
    layers = unit_graph(architecture).layers
    counts = {layer.name: torch.ones(len(LABELS), layer.units, dtype=torch.int32) for layer in layers}
    units = {layer.name: torch.arange(layer.units) for layer in layers}
    held = ActivationCounts(counts=counts, units=units, samples=(1,) * len(LABELS))
    rule = InputSpec(image_size=16, channels=1, mean=(0.5,), std=(0.5,))
    weights = initial_network(architecture, seed).state_dict()
    return ModularModel(architecture, LABELS, (0, 1, 2), rule, weights, held, Decimal("0.9"))


def drawn(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 1, 16, 16)).to(torch.uint8)


def check_that_every_model_is_compiled_before_it_is_asked() -> None:
    for seed in range(MODELS):
        model, before = modular(seed), len(graphs)
        compiled, folded = executable(model, "compiled"), executable(model, "folded")
        made = len(graphs)
        assert made > before, f"model {seed + 1} runs uncompiled"
        for count in (1, 2, 5, 64):
            pixels = drawn(count)
            torch.testing.assert_close(compiled(pixels), folded(pixels), rtol=1e-4, atol=1e-5)
        assert len(graphs) == made, f"model {seed + 1} was compiled while it was asked"


def check_that_a_mixed_model_is_too() -> None:
    model, before = modular(0), len(graphs)
    mixed = MixedModel(model, "compiled")
    made = len(graphs)
    assert made > before
    for count in (1, 3, 64):
        mixed(drawn(count), stacked([whole(model)] * count))
    assert len(graphs) == made


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.compile = functools.partial(torch.compile, backend=counted)
    check_that_every_model_is_compiled_before_it_is_asked()
    check_that_a_mixed_model_is_too()
