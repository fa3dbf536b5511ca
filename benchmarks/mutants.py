"""Sliced models that are wrong in one place: a proof that does not catch them proves nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.proof import Case, error
from moda_core.structure.operations import Dense, Linear
from moda_core.structure.regrouping import Merge, Split
from moda_core.structure.sliced import SlicedModel

__all__ = ["MUTATIONS", "mutant_errors"]

_SITES = 6


def mutant_errors(case: Case, mutation: str) -> list[float]:
    """The float64 errors of a case's mutants, one per site (some of them, where there are many).

    A change that its own part's output does not show (two equal channels swapped) makes no mutant.
    """
    sites, mutate = MUTATIONS[mutation]
    sliced = case.sliced()
    names = [name for name in sites(case, sliced) if mutate(copy.deepcopy(sliced.get_submodule(name)))]
    errors = []
    for name in names[:: -(-len(names) // _SITES) or 1]:
        mutant = copy.deepcopy(sliced)
        mutate(mutant.get_submodule(name))
        met: list[Tensor] = []
        mutant.get_submodule(name).register_forward_pre_hook(partial(_note, met))
        with torch.inference_mode():
            found = error(mutant(case.images), case.reference)
            if not torch.equal(sliced.get_submodule(name)(met[0]), mutant.get_submodule(name)(met[0])):
                errors.append(found)
    return errors


def _note(met: list[Tensor], _part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    met.append(inputs[0].clone())


def _everywhere(_case: Case, sliced: SlicedModel) -> list[str]:
    return [name for name, _ in sliced.named_modules() if name]


def _dense(case: Case) -> list[str]:
    """Convolutions and linear layers, in the order of their calls."""
    return [str(call.operation.node.target) for call in case.plan().calls if isinstance(call.operation, Dense)]


def _stem(case: Case, _sliced: SlicedModel) -> list[str]:
    return _dense(case)[:1]


def _head(case: Case, _sliced: SlicedModel) -> list[str]:
    return _dense(case)[-1:]


def _attention(case: Case, _sliced: SlicedModel) -> list[str]:
    """Linear layers whose rows are divided into heads."""
    splits = [call.operation for call in case.plan().calls if isinstance(call.operation, Split)]
    return [str(source.target) for split in splits for source in split.sources if source.op == "call_module"]


def _projections(case: Case, _sliced: SlicedModel) -> list[str]:
    """Linear layers whose columns are heads joined."""
    calls = [call.operation for call in case.plan().calls if isinstance(call.operation, Linear)]
    joined = [call for call in calls if isinstance(case.graph.operations[call.sources[0]], Merge)]
    return [str(call.node.target) for call in joined if len(call.output.shape) == 3]


def _zero(part: nn.Module) -> bool:
    part.get_parameter("weight").data.zero_()
    return True


def _permute_index(part: nn.Module) -> bool:
    for indices in (getattr(part, "take", None), getattr(part, "put", None)):
        if isinstance(indices, Tensor) and len(indices) > 1:
            indices[[0, -1]] = indices[[-1, 0]].clone()
            return True
    return False


def _drop_scatter(part: nn.Module) -> bool:
    """Values go to the first places instead of their own."""
    put = getattr(part, "put", None)
    first = None if put is None else torch.arange(len(put))
    if not isinstance(put, Tensor) or first is None or torch.equal(put, first):
        return False
    put.copy_(first)
    return True


def _swap_norm_rows(part: nn.Module) -> bool:
    if not isinstance(part, nn.BatchNorm2d) or len(part.weight) < 2:
        return False
    for state in (part.weight.data, part.bias.data, part.running_mean, part.running_var):
        _swap_first_and_last(state)
    return True


def _swap_rows(part: nn.Module) -> bool:
    _swap_first_and_last(part.get_parameter("weight").data)
    return True


def _swap_columns(part: nn.Module) -> bool:
    weight = part.get_parameter("weight").data
    weight[:, [0, -1]] = weight[:, [-1, 0]].clone()
    return True


def _swap_first_and_last(rows: Tensor | None) -> None:
    if rows is not None:
        rows[[0, -1]] = rows[[-1, 0]].clone()


MUTATIONS: Mapping[str, tuple[Callable[[Case, SlicedModel], list[str]], Callable[[nn.Module], bool]]] = {
    "stem zeroed": (_stem, _zero),
    "one index permuted": (_everywhere, _permute_index),
    "one scatter dropped": (_everywhere, _drop_scatter),
    "one batch-norm row swapped": (_everywhere, _swap_norm_rows),
    "one class row swapped": (_head, _swap_rows),
    "one attention row swapped": (_attention, _swap_rows),
    "one projection column swapped": (_projections, _swap_columns),
}
"""By name: the parts of a sliced model that are tried, and a change of one in place, False where it has nothing to change."""
