"""Compositions by MODA's modules, of whatever model was decomposed.

Sizes and operations are counted by index arithmetic, as sliced and as the paper counts (``undropped``).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from torch import nn

from experiments.models.decomposition import exact
from experiments.records.result_file import Row
from experiments.reuse.modules import measured_modules
from experiments.reuse.subtasks import Subtask
from moda_core.modularity.composition import compose, composition_plan
from moda_core.modularity.measures import whole_flops
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import full_network, network
from moda_core.structure.slicing import Plan

__all__ = ["ModuleComposer", "costs", "modules_at"]


class ModuleComposer:
    """Composes at τ, from weights that lie on the device.

    Args:
        model: whole.
        digest: of its file.
        threshold: τ.
        device: where to cut and run.
    """

    def __init__(self, model: ModularModel, digest: str, threshold: Decimal, *, device: str = "cpu") -> None:
        self.identity: Row = {"model": digest, "threshold": exact(threshold)}
        self.model = replace(model, weights={name: weight.to(device) for name, weight in model.weights.items()})
        self.threshold, self.device = threshold, device

    def whole(self) -> nn.Module:
        """The uncut network."""
        return full_network(self.model.architecture, self.model.weights, self.device)

    def composed(self, task: Subtask) -> tuple[nn.Module, Row]:
        """One composed model, and what it keeps."""
        labels = [self.model.labels[position] for position in task]
        built = network(compose(self.model, labels, self.threshold), self.device)
        sliced = composition_plan(self.model, labels, self.threshold)
        undropped = composition_plan(self.model, labels, self.threshold, drop=False)
        # Index moves are on the CPU still: `network` looks at parameters alone, which were cut on the device.
        return built.get_submodule("body").to(self.device), costs(sliced, undropped)

    def modules(self) -> Row:
        """Sizes and overlaps of the modules."""
        return modules_at(self.model, self.threshold)


def modules_at(model: ModularModel, threshold: Decimal) -> Row:
    """Sizes and overlaps of all modules of a model at τ."""
    sliced, undropped = (
        {label: composition_plan(model, [label], threshold, drop=drop) for label in model.labels}
        for drop in (True, False)
    )
    return measured_modules(sliced, undropped)


def costs(sliced: Plan, undropped: Plan) -> Row:
    """What a composition keeps of the model, and the model's own."""
    return {
        "kept_parameters": sliced.parameters,
        "kept_flops": sliced.flops,
        "kept_parameters_undropped": undropped.parameters,
        "kept_flops_undropped": undropped.flops,
        "original_parameters": sliced.graph.parameters,
        "original_flops": whole_flops(sliced.graph),
    }
