"""The trained models that the questions ask for, each trained once and found by all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.models.moda import Run, trained
from experiments.models.mwt import MwtRun, trained_mwt
from experiments.models.training import How
from experiments.setup.progress import epochs
from experiments.setup.setting import Setting
from moda_core.baselines.mwt.training import MwtSpec
from moda_core.specs import TrainingSpec
from moda_core.training.distributed import ALONE, Ranks

__all__ = ["APPROACHES", "MWT", "mwt_run_of", "mwt_spec", "run_of", "run_with", "spec_of"]

APPROACHES: dict[str, dict[str, Any]] = {
    "ST": {"objective": "standard"},
    "MODA": {},
    "MODA-": {"gamma": 0.0},
}
"""What each approach changes in the default training spec."""

MWT = "MwT"


def spec_of(setting: Setting, approach: str, seed: int) -> TrainingSpec | MwtSpec:
    """What an approach trains by under a seed."""
    return mwt_spec(setting, seed) if approach == MWT else setting.spec(seed, **APPROACHES[approach])


def mwt_spec(setting: Setting, seed: int) -> MwtSpec:
    """MwT's own loss and the same recipe."""
    return MwtSpec(
        dataset=setting.digest, architecture=setting.model, width=setting.width, epochs=setting.epochs, seed=seed
    )


def run_of(setting: Setting, approach: str, seed: int, ranks: Ranks = ALONE) -> Run:
    """The model of ``ST``, ``MODA`` or ``MODA-`` under a seed."""
    return run_with(setting, f"{approach}, seed {seed}", seed, APPROACHES[approach], ranks)


def run_with(setting: Setting, what: str, seed: int, changes: Mapping[str, Any], ranks: Ranks = ALONE) -> Run:
    """The model of the default spec but for `changes`; `what` it is, while it is trained."""
    return trained(setting.runs, setting.spec(seed, **changes), setting.dataset, _how(setting, what, ranks))


def mwt_run_of(setting: Setting, seed: int, ranks: Ranks = ALONE) -> MwtRun:
    """The model that MwT trains under a seed."""
    how = _how(setting, f"{MWT}, seed {seed}", ranks)
    return trained_mwt(setting.runs, mwt_spec(setting, seed), setting.dataset, how)


def _how(setting: Setting, what: str, ranks: Ranks) -> How:
    """As the setting says, with a line that tells what is trained."""
    report = epochs(f"training {what}")
    return How(device=setting.device, execution=setting.execution, ranks=ranks, progress=report)
