"""What the demo is to reach, and whether it did: printed as it is, reached or not."""

from __future__ import annotations

from dataclasses import dataclass

from service.demo.findings import Findings, SeedFindings, mean

__all__ = ["Goal", "measured_goals"]

GAP_POINTS = 0.5
SIZE_REDUCTION = 1 / 3
GAIN_TENTH_POINTS = 3.0
GAIN_ALL_POINTS = 5.0


@dataclass(frozen=True)
class Goal:
    """A goal with what was measured; over several seeds, the mean."""

    what: str
    wanted: str
    measured: str
    reached: bool


def measured_goals(findings: Findings) -> list[Goal]:
    """Each goal against the mean over the seeds."""
    seeds = findings.seeds
    n = f"n = {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    gap = mean(one.gap_points for seed in seeds for one in seed.modular.compositions)
    compositions = sum(len(seed.modular.compositions) for seed in seeds)
    saved = mean(_saved(seed) for seed in seeds)
    tenth = mean(seed.gains("tenth", lambda one: one.target_gain) for seed in seeds)
    everything = mean(seed.gains("all", lambda one: one.target_gain) for seed in seeds)
    return [
        Goal(
            "Accuracy lost by composing, mean",
            f"at most {GAP_POINTS} points",
            f"{gap:+.2f} points (n = {compositions} compositions)",
            gap <= GAP_POINTS,
        ),
        Goal(
            "Mean module, smaller than the standard model's",
            f"by at least {100 * SIZE_REDUCTION:.1f} %",
            f"{100 * saved:.1f} % ({n})",
            saved >= SIZE_REDUCTION,
        ),
        Goal(
            "Target gain, adaptation on the weak model's tenth",
            f"above {GAIN_TENTH_POINTS:.0f} points",
            f"{tenth:+.2f} points ({n})",
            tenth > GAIN_TENTH_POINTS,
        ),
        Goal(
            "Target gain, adaptation on all training images",
            f"above {GAIN_ALL_POINTS:.0f} points",
            f"{everything:+.2f} points ({n})",
            everything > GAIN_ALL_POINTS,
        ),
    ]


def _saved(seed: SeedFindings) -> float:
    """By what share of it the mean modular module is smaller than the mean standard one."""
    return 1 - seed.modular.mean_size / seed.standard.mean_size
