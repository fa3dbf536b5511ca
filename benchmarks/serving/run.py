"""One whole run: our service's choice of forms, the peers' environments, all rounds, and our service beside itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import Any

from benchmarks.serving.contestants import FIRST_MODEL, MODULAR, Contestant, Place, ours, peers
from benchmarks.serving.environments import PEERS, versions
from benchmarks.serving.ourselves import chosen_forms, composed_beside_whole, in_process, together_beside_one
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Plan, Visit, visited

__all__ = ["Found", "measure"]

_Progress = Callable[[str], None]
_BROKEN = (RuntimeError, OSError, HTTPException)
"""What a server that does not start or does not go on answering raises here."""


@dataclass(frozen=True)
class Found:
    """Everything that one run measured.

    Attributes:
        ourselves: rows of the tables in which our service stands beside itself.
        missing: peers that were left out, from the start or from some round on, and why.
        forms: in which our service runs each model.
    """

    results: Results
    ourselves: dict[str, list[dict[str, Any]]]
    missing: list[str]
    forms: dict[str, str]
    versions: dict[str, dict[str, str]]
    minutes: float


def measure(plan: Plan, place: Place, wanted: Sequence[str], *, ourselves: bool, progress: _Progress) -> Found:
    """Install, start, measure and stop everybody; what may fail at all fails in the first minutes."""
    began = time.monotonic()
    progress("our service chooses the forms of its models")
    forms = chosen_forms(place, [*plan.models, *([MODULAR] if ourselves else [])])
    place = replace(place, forms=forms)
    progress("environments of the peers")
    others, missing = peers(place, wanted)
    more = _ourselves(plan, place, progress) if ourselves else {}
    results = _rounds([ours(place), *others], plan, place, missing, progress)
    known = {
        peer: versions(home)
        for peer in PEERS
        if (home := place.environments / peer) and peer in wanted and home.exists()
    }
    return Found(results, more, missing, forms, {"ours": versions(), **known}, (time.monotonic() - began) / 60)


def _rounds(
    contestants: list[Contestant], plan: Plan, place: Place, missing: list[str], progress: _Progress
) -> Results:
    """Everybody once a round, each round beginning with the next one, and our executable alone before it.

    A peer that breaks is left out from then on, and named in `missing`.
    """
    found: list[Visit] = []
    alone: dict[str, list[dict[int, float]]] = {model: [] for model in plan.models if model != FIRST_MODEL}
    for number in range(plan.rounds):
        for model, rounds in alone.items():
            rounds.append(in_process(place, model, plan.seconds))
        first = number % len(contestants)
        for contestant in [*contestants[first:], *contestants[:first]]:
            progress(f"round {number + 1} of {plan.rounds}: {contestant.name}")
            try:
                found.append(visited(contestant, number, plan, place))
            except _BROKEN as error:
                if contestant.is_ours:
                    raise
                contestants.remove(contestant)
                missing.append(f"{contestant.name}, round {number + 1}: {error}")
    return Results(found, alone)


def _ourselves(plan: Plan, place: Place, progress: _Progress) -> dict[str, list[dict[str, Any]]]:
    return {
        "ResNet18 composed for 3 classes beside all 10, through HTTP": composed_beside_whole(place, plan, progress),
        "All processes of the service beside one": together_beside_one(place, plan, progress),
    }
