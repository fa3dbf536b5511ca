"""Rows of reuse and of modules, as several questions ask for them.

``kind: reuse``, one per sub-task: ``approach``, ``seed``, ``classes`` (indices), ``accuracy``, and for what is
composed ``threshold``, ``whole`` (the uncut model's accuracy within the same classes, on the same images),
``kept_parameters``, ``kept_flops`` (as sliced; ``..._undropped`` as the paper counts), ``original_...``.
``kind: modules``, one per model and τ: see `experiments.modules`.

``ST`` is the standard model asked for the best of the sub-task's classes; ``ST-composed`` the same
model decomposed and composed like the others: what masks alone would give. ``MwT`` is composed
without fine-tuning, ``MwT+generators`` too, with its mask generators kept; ``MwT+ft`` is fine-tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from experiments import training
from experiments.composers import ModuleComposer
from experiments.decomposition import modular_model
from experiments.evaluation import Evaluation
from experiments.mwt_composers import FineTunedComposer, MwtComposer
from experiments.mwt_runs import MwtRun, mwt_modules
from experiments.results import ResultFile, Row
from experiments.reuse import Composer, Reuse
from experiments.runs import Run
from experiments.settings import Setting
from experiments.subtasks import Subtask
from moda_core.baselines.mwt.modules import THRESHOLD
from moda_core.modularity.networks import full_network

__all__ = ["COMPOSED", "FINE_TUNED", "MWT_COMPOSED", "Recorder"]

COMPOSED = {"ST-composed": "ST", "MODA": "MODA", "MODA-": "MODA-"}
"""Approaches that compose by MODA's modules, and the training that each takes."""

FINE_TUNED = "MwT+ft"
MWT_COMPOSED = ("MwT", "MwT+generators", FINE_TUNED)


class Recorder:
    """Adds the rows of one question to its file, those that it lacks."""

    def __init__(self, setting: Setting, file: ResultFile) -> None:
        self.setting, self.file = setting, file
        self._recorded = {_key(row) for row in file.measured() if row["kind"] == "reuse"}

    def composed(self, approach: str, seed: int, threshold: Decimal, tasks: Sequence[Subtask]) -> None:
        """Reuse and modules of an approach of `COMPOSED` at τ."""
        setting = self.setting
        run = training.of_approach(setting, COMPOSED[approach], seed)
        model = modular_model(run, setting.dataset, device=setting.device)
        self._record(approach, seed, run, ModuleComposer(model, run.digest, threshold, device=setting.device), tasks)

    def mwt(self, approach: str, seed: int, tasks: Sequence[Subtask]) -> None:
        """Reuse and modules of an approach of `MWT_COMPOSED` at MwT's own τ."""
        setting, device = self.setting, self.setting.device
        run = training.of_mwt(setting, seed)
        masks = mwt_modules(run, setting.dataset, THRESHOLD, device=device)
        if approach == FINE_TUNED:
            composer: Composer = FineTunedComposer(run, masks, setting.dataset, seed=seed, device=device)
        else:
            kept = approach != training.MWT
            composer = MwtComposer(run, masks, keep_generators=kept, device=device)
        self._record(approach, seed, run, composer, tasks)

    def standard(self, seed: int, tasks: Sequence[Subtask]) -> None:
        """The standard model, uncut, within each sub-task's classes."""
        run = training.of_approach(self.setting, "ST", seed)
        evaluation = _evaluation(self.setting, run)
        logits = evaluation.logits(full_network(run.model.architecture, run.model.weights, self.setting.device))
        head = {"kind": "reuse", "approach": "ST", "seed": seed, "model": run.digest, "threshold": None}
        rows = [{**head, "images_per_class": evaluation.per_class, "classes": list(task)} for task in tasks]
        new = self._new(rows)
        self.file.extend({**row, "accuracy": evaluation.correct_within(logits, row["classes"])} for row in new)

    def _record(
        self, approach: str, seed: int, run: Run | MwtRun, composer: Composer, tasks: Sequence[Subtask]
    ) -> None:
        reuse = Reuse(run.place, _evaluation(self.setting, run), device=self.setting.device)
        head = {"approach": approach, "seed": seed}
        rows = reuse.measure(composer, tasks, f"reuse of {approach} at τ {composer.identity['threshold']}, seed {seed}")
        self.file.adopt(self._new([{"kind": "reuse", **head, **row} for row in rows]), reuse.file)
        about = {"kind": "modules", **head, **composer.identity}
        if not self.file.has(**about):
            self.file.append(about | composer.modules())

    def _new(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that the file lacks, which it is given next."""
        new = [row for row in rows if _key(row) not in self._recorded]
        self._recorded |= {_key(row) for row in new}
        return new


def _evaluation(setting: Setting, run: Run | MwtRun) -> Evaluation:
    """The setting's test images, as a run's model takes them."""
    model = run.model
    images, device = setting.dataset.test, setting.device
    return Evaluation(images, model.input, len(model.labels), device=device, per_class=setting.images_per_class)


def _key(row: Row) -> tuple[object, ...]:
    named = ("approach", "seed", "model", "threshold", "images_per_class")
    return (*(row[name] for name in named), tuple(row["classes"]))
