"""How long the forms of a model take: measured in turns, so that what else the machine does slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from moda_core.inference.executables import Executable, Form

__all__ = ["LARGE_BATCH", "FormTimes", "fastest", "timed"]

LARGE_BATCH = 32
_ENOUGH_S, _MOST_ROUNDS = 0.1, 100
_IN_A_ROW = 5


@dataclass(frozen=True, kw_only=True)
class FormTimes:
    """What one form takes: for a batch of one, and per image of a batch of `LARGE_BATCH`."""

    form: Form
    single_ms: float
    image_ms: float


def timed(
    asked: Mapping[Form, Executable], given: tuple[Tensor, ...], rounds: int, going_on: Callable[[], None]
) -> tuple[dict[Form, FormTimes], dict[Form, Exception]]:
    """Milliseconds of one image alone, and of one among many; and what went wrong with the forms that have none.

    They are the shortest of rounds in which the forms take turns, because what else the machine does only ever adds
    to a time. Quick models have as many rounds more as fit into a tenth of a second. Single images come several in a
    row: the first finds in the processor's caches what the large batch before it has left there, which favours forms
    that run the same code for both.
    """
    single = tuple(one[:1] for one in given)
    many = tuple(one[torch.arange(LARGE_BATCH) % len(one)] for one in given)
    times: dict[Form, list[list[float]]] = {form: [] for form in asked}
    broken: dict[Form, Exception] = {}
    began, done = perf_counter(), 0
    while done <= rounds or (done < _MOST_ROUNDS and perf_counter() - began < _ENOUGH_S):
        done += 1
        for form in [form for form in asked if form not in broken]:
            going_on()
            try:
                singles = [_milliseconds(asked[form], single) for _ in range(_IN_A_ROW)]
                times[form].append([min(singles), _milliseconds(asked[form], many)])
            except Exception as error:  # noqa: BLE001 # a compiler fails in many ways
                broken[form] = error
    shortest = {
        form: [min(column) for column in zip(*times[form], strict=True)] for form in asked if form not in broken
    }
    found = {
        form: FormTimes(form=form, single_ms=single, image_ms=large / LARGE_BATCH)
        for form, (single, large) in shortest.items()
    }
    return found, broken


def fastest(times: Mapping[Form, FormTimes], forms: Iterable[Form]) -> Form:
    """Of some forms the one that is fastest by both times alike."""
    return min(forms, key=lambda form: times[form].single_ms * times[form].image_ms)


def _milliseconds(asked: Executable, batch: tuple[Tensor, ...]) -> float:
    began = perf_counter()
    asked(*batch).cpu()
    return 1e3 * (perf_counter() - began)
