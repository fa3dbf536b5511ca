"""Rows of reuse and of modules, as several questions ask for them.

``kind: reuse``, one per sub-task: ``approach``, ``seed``, ``classes`` (indices), ``accuracy``, and for what is
composed ``threshold``, ``whole`` (the uncut model's accuracy within the same classes, on the same images),
``kept_parameters``, ``kept_flops`` (as sliced; ``…_undropped`` as the paper counts), ``original_…``.
``kind: modules``, one per model and τ: see `experiments.modules`.
``ST`` is the standard model asked for the best of the sub-task's classes, ``ST-composed`` the same
model decomposed and composed like the others: what masks alone would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from experiments.decomposition import modular_model
from experiments.evaluation import Evaluation
from experiments.modules import measured_modules
from experiments.results import ResultFile, Row
from experiments.reuse import Reuse
from experiments.runs import Run
from experiments.settings import Setting
from experiments.subtasks import Subtask
from experiments.training import of_approach
from moda_core.modularity.networks import full_network

__all__ = ["COMPOSED", "Recorder"]

COMPOSED = {"ST-composed": "ST", "MODA": "MODA", "MODA-": "MODA-"}
"""Approaches that compose by MODA's modules, and the training that each takes."""


class Recorder:
    """Adds the rows of one question to its file, those that it lacks."""

    def __init__(self, setting: Setting, file: ResultFile, tasks: Sequence[Subtask]) -> None:
        self.setting, self.file, self.tasks = setting, file, tasks
        self._recorded = {_key(row) for row in file.measured() if row["kind"] == "reuse"}
        self._reuse = lru_cache(maxsize=1)(self._measurable)

    def composed(self, approach: str, seed: int, threshold: Decimal) -> None:
        """Reuse and modules of an approach of `COMPOSED` at τ."""
        reuse = self._reuse(approach, seed)
        what = f"reuse of {approach} at τ = {threshold}, seed {seed}"
        head = {"approach": approach, "seed": seed}
        rows = reuse.measure(self.tasks, threshold, what)
        self.file.adopt(self._new([{"kind": "reuse", **head, **row} for row in rows]), reuse.file)
        about = {**head, "model": rows[0]["model"], "threshold": rows[0]["threshold"]}
        if not self.file.has(kind="modules", **about):
            self.file.append({"kind": "modules", **about, **measured_modules(reuse.model, threshold)})

    def standard(self, seed: int) -> None:
        """The standard model, uncut, within each sub-task's classes."""
        run = of_approach(self.setting, "ST", seed)
        evaluation = evaluation_of(self.setting, run)
        body = full_network(run.model.architecture, run.model.weights, self.setting.device)
        logits = evaluation.logits(body)
        head = {"kind": "reuse", "approach": "ST", "seed": seed, "model": run.digest}
        head |= {"threshold": None, "images_per_class": evaluation.per_class}
        rows = [{**head, "classes": list(task)} for task in self.tasks]
        new = self._new(rows)
        self.file.extend({**row, "accuracy": evaluation.correct_within(logits, row["classes"])} for row in new)

    def _measurable(self, approach: str, seed: int) -> Reuse:
        run = of_approach(self.setting, COMPOSED[approach], seed)
        model = modular_model(run, self.setting.dataset, device=self.setting.device)
        return Reuse(run, model, evaluation_of(self.setting, run), device=self.setting.device)

    def _new(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that the file lacks, which it is given next."""
        new = [row for row in rows if _key(row) not in self._recorded]
        self._recorded |= {_key(row) for row in new}
        return new


def evaluation_of(setting: Setting, run: Run) -> Evaluation:
    """The setting's test images, as a run's model takes them."""
    return Evaluation(
        setting.dataset.test,
        run.model.input,
        len(run.model.labels),
        device=setting.device,
        per_class=setting.images_per_class,
    )


def _key(row: Row) -> tuple[object, ...]:
    named = ("approach", "seed", "model", "threshold", "images_per_class")
    return (*(row[name] for name in named), tuple(row["classes"]))
