"""The trained models that the questions ask for, each trained once and found by all of them."""

from __future__ import annotations

from typing import Any

from experiments.progress import epochs
from experiments.runs import Run, trained
from experiments.settings import APPROACHES, Setting

__all__ = ["of_approach", "of_changes"]


def of_approach(setting: Setting, approach: str, seed: int) -> Run:
    """The model of ``ST``, ``MODA`` or ``MODA-`` under a seed."""
    return of_changes(setting, f"{approach}, seed {seed}", seed, **APPROACHES[approach])


def of_changes(setting: Setting, what: str, seed: int, **changes: Any) -> Run:
    """The model of the default spec but for `changes`; `what` it is, while it is trained."""
    return trained(
        setting.runs,
        setting.spec(seed, **changes),
        setting.dataset,
        device=setting.device,
        progress=epochs(f"training {what}"),
    )
