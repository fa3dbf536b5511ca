"""Rows of reuse and of modules, as several questions ask for them.

``kind: reuse``, one per sub-task: ``approach``, ``seed``, ``classes`` (indices), ``accuracy``, and for what is
composed ``threshold``, ``whole`` (the uncut model's accuracy within the same classes, on the same images),
``kept_parameters``, ``kept_flops`` (as sliced; ``..._undropped`` as the paper counts), ``original_...``, ``seconds``.
``kind: modules``, one per model and τ: see `experiments.reuse.modules`; also how many sub-tasks were composed by then
(``reuse_tasks``), and in how many seconds together (``reuse_s``).
All have ``model``, the digest of its file, and ``spec``, the digest of what it was trained by. Where MwT fails,
a row has ``error`` in place of its measures.

``ST`` is the standard model asked for the best of the sub-task's classes; ``ST-composed`` the same
model decomposed and composed like the others: what masks alone would give. ``MwT`` is composed
without fine-tuning, ``MwT+generators`` too, with its mask generators kept; ``MwT+ft`` is fine-tuned.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal

from experiments.models.approaches import MWT, mwt_run_of, mwt_spec, run_of
from experiments.models.decomposition import exact, modular_model
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run
from experiments.models.mwt import MwtRun, mwt_modules
from experiments.records.result_file import ResultFile, Row
from experiments.reuse.composers import ModuleComposer
from experiments.reuse.measurements import Composer, Reuse
from experiments.reuse.mwt_composers import FineTunedComposer, MwtComposer
from experiments.reuse.subtasks import Subtask
from experiments.setup.setting import Setting
from moda_core.baselines.mwt.modules import THRESHOLD, ModuleMasks
from moda_core.errors import Conflict, TrainingFailure
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
        run = run_of(setting, COMPOSED[approach], seed)
        model = modular_model(run, setting.dataset, device=setting.device)
        self._record(approach, seed, run, ModuleComposer(model, run.digest, threshold, device=setting.device), tasks)

    def mwt(self, approach: str, seed: int, tasks: Sequence[Subtask]) -> None:
        """Reuse and modules of an approach of `MWT_COMPOSED` at MwT's own τ; if it has none, a row that says why."""
        about = {"kind": "modules", "approach": approach, "seed": seed}
        about |= {"spec": mwt_spec(self.setting, seed).digest()[:16], "threshold": exact(THRESHOLD)}
        try:
            run = mwt_run_of(self.setting, seed)
        except TrainingFailure as error:
            self._fail(about, error)
            return
        try:
            masks = mwt_modules(run, self.setting.dataset, THRESHOLD, device=self.setting.device)
        except Conflict as error:
            self._fail(about | {"model": run.digest}, error)
            return
        self._record(approach, seed, run, self._mwt_composer(approach, seed, run, masks), tasks)

    def _mwt_composer(self, approach: str, seed: int, run: MwtRun, masks: ModuleMasks) -> Composer:
        dataset, device = self.setting.dataset, self.setting.device
        if approach == FINE_TUNED:
            return FineTunedComposer(run, masks, dataset, seed=seed, device=device)
        return MwtComposer(run, masks, keep_generators=approach != MWT, device=device)

    def _fail(self, about: Row, error: Conflict | TrainingFailure) -> None:
        print(f"{about['approach']}, seed {about['seed']}: {error}", file=sys.stderr)
        if not self.file.has(**about, error=str(error)):
            self.file.append(about | {"error": str(error)})

    def standard(self, seed: int, tasks: Sequence[Subtask]) -> None:
        """The standard model, uncut, within each sub-task's classes."""
        run = run_of(self.setting, "ST", seed)
        evaluation = _evaluation(self.setting, run)
        logits = evaluation.logits(full_network(run.model.architecture, run.model.weights, self.setting.device))
        head = {"kind": "reuse", "approach": "ST", "seed": seed, "spec": run.spec_digest, "model": run.digest}
        head |= {"threshold": None}
        rows = [{**head, "images_per_class": evaluation.per_class, "classes": list(task)} for task in tasks]
        new = self._new(rows)
        self.file.extend({**row, "accuracy": evaluation.correct_within(logits, row["classes"])} for row in new)

    def _record(
        self, approach: str, seed: int, run: Run | MwtRun, composer: Composer, tasks: Sequence[Subtask]
    ) -> None:
        reuse = Reuse(run.place, _evaluation(self.setting, run), conditions=self.setting.invocation())
        head = {"approach": approach, "seed": seed, "spec": run.spec_digest}
        rows = reuse.measure(composer, tasks, f"reuse of {approach} at τ {composer.identity['threshold']}, seed {seed}")
        about = {"kind": "modules", **head, **composer.identity}
        modules = [] if self.file.has(**about) else [about | composer.modules() | _time(rows)]
        self.file.adopt(self._new([{"kind": "reuse", **head, **row} for row in rows]), reuse.file, own=modules)

    def _new(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that the file lacks, which it is given next."""
        new = [row for row in rows if _key(row) not in self._recorded]
        self._recorded |= {_key(row) for row in new}
        return new


def _time(rows: Sequence[Row]) -> Row:
    """How many compositions were timed, and how long they took."""
    timed = [row["seconds"] for row in rows if "seconds" in row]
    return {"reuse_tasks": len(timed), "reuse_s": round(sum(timed), 3)}


def _evaluation(setting: Setting, run: Run | MwtRun) -> Evaluation:
    """The setting's test images, as a run's model takes them."""
    model = run.model
    images, device = setting.dataset.test, setting.device
    return Evaluation(images, model.input, len(model.labels), device=device, per_class=setting.images_per_class)


def _key(row: Row) -> tuple[object, ...]:
    named = ("approach", "seed", "spec", "model", "threshold", "tuning", "images_per_class")
    return (*(row.get(name) for name in named), tuple(row["classes"]))
