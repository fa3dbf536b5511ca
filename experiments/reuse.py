"""How well the compositions of a modular model do, and what they cost: measured once, kept beside the run.

Every composed model is cut out and run, on the test images of its classes alone. Sizes and
operations are counted by index arithmetic, as sliced and as the paper counts (``undropped``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from experiments.conditions import invocation
from experiments.evaluation import Evaluation
from experiments.progress import Progress
from experiments.results import ResultFile, Row
from experiments.runs import Run
from experiments.subtasks import Subtask
from moda_core.modularity.composition import compose, composition_plan
from moda_core.modularity.measures import whole_flops
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import full_network, network
from moda_core.structure.unitgraph import unit_graph

__all__ = ["Reuse", "measured_composition"]


class Reuse:
    """The compositions of one run's modular model that were measured, and those that are to be.

    Args:
        run: whose folder keeps the measurements, for every question that asks.
        evaluation: on the device where composed models run.
    """

    def __init__(self, run: Run, model: ModularModel, evaluation: Evaluation, *, device: str = "cpu") -> None:
        self.file = ResultFile(run.place / "reuse.jsonl")
        self.evaluation, self.device = evaluation, device
        self.model = replace(model, weights={name: weight.to(device) for name, weight in model.weights.items()})
        self._digest = run.digest
        self._known = {_key(row): row for row in self.file.measured()}

    def measure(self, tasks: Sequence[Subtask], threshold: Decimal, what: str) -> list[Row]:
        """The rows of all these sub-tasks at τ, in their order; those that are missing are measured.

        Raises:
            Conflict: if the model was composed at a higher τ.
        """
        wanted = [self._identity(task, threshold) for task in tasks]
        missing = [identity for identity in wanted if _key(identity) not in self._known]
        if missing:
            self.file.begin(invocation(self.device))
            body = full_network(self.model.architecture, self.model.weights, self.device)
            logits = self.evaluation.logits(body)
            with Progress(what, len(tasks), done=len(tasks) - len(missing)) as progress:
                for identity in missing:
                    task = tuple(identity["classes"])
                    whole = self.evaluation.correct_within(logits, task)
                    measured = measured_composition(self.model, task, threshold, self.evaluation, self.device)
                    self._keep(identity | {"whole": whole} | measured)
                    progress.advance()
        return [self._known[_key(identity)] for identity in wanted]

    def _keep(self, row: Row) -> None:
        self._known[_key(row)] = self.file.append(row)

    def _identity(self, task: Subtask, threshold: Decimal) -> Row:
        return {
            "model": self._digest,
            "threshold": format(threshold.normalize(), "f"),
            "images_per_class": self.evaluation.per_class,
            "classes": list(task),
        }


def measured_composition(
    model: ModularModel, task: Subtask, threshold: Decimal, evaluation: Evaluation, device: str
) -> Row:
    """One composed model, cut out and run."""
    labels = [model.labels[position] for position in task]
    graph = unit_graph(model.architecture)
    composed = network(compose(model, labels, threshold), device).to(device)
    sliced = composition_plan(model, labels, threshold)
    undropped = composition_plan(model, labels, threshold, drop=False)
    return {
        "accuracy": evaluation.correct(composed.get_submodule("body"), task),
        "kept_parameters": sliced.parameters,
        "kept_flops": sliced.flops,
        "kept_parameters_undropped": undropped.parameters,
        "kept_flops_undropped": undropped.flops,
        "original_parameters": graph.parameters,
        "original_flops": whole_flops(graph),
    }


def _key(row: Mapping[str, object]) -> tuple[object, ...]:
    classes = row["classes"]
    assert isinstance(classes, list)
    return row["model"], row["threshold"], row["images_per_class"], tuple(classes)
