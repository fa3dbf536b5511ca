"""Whether a file's tensors can be those of the model it describes: asked before they are loaded, and after.

Files come from anywhere. What passes here cannot make the rest of the program index out of range,
allocate more than its architecture needs, or compute with numbers that are none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from moda_core.architectures import catalogue
from moda_core.errors import InvalidInput, UnreadableFile, Untraceable
from moda_core.modularity.composition import held_masks
from moda_core.modularity.models import ModularModel
from moda_core.specs import ArchitectureSpec
from moda_core.storage.descriptions import CountsDescription, PatchedDescription, WeightsDescription
from moda_core.storage.tensorfiles import TensorInfo, Tensors
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import unit_graph

__all__ = ["COUNTS", "INDEX", "UNITS", "below", "check_holds_enough", "check_info", "check_values", "fitting"]

T = TypeVar("T")
Infos = Mapping[str, TensorInfo]
Description = WeightsDescription | PatchedDescription | CountsDescription
_Form = tuple[torch.dtype, tuple[int, ...]]
COUNTS, UNITS, INDEX = "counts/", "units/", "index/"
_PARTS = (COUNTS, UNITS, INDEX)


class _UnfitError(Exception):
    """What does not fit, in words; it never leaves `fitting`."""


_UNFIT = (_UnfitError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def fitting(file: str) -> Iterator[None]:
    """Turn what does not fit into an `UnreadableFile` that names the file.

    That is also whatever a network says that is built or traced as a file asks: nothing in here is
    anyone else's fault, since bytes that cannot be read are our own errors before they come this far.
    """
    try:
        yield
    except (*_UNFIT, InvalidInput, Untraceable) as error:
        problem = f"it does not hold the model it describes: {error}"
        raise UnreadableFile("file", file, problem, "use a file that MODA wrote, unchanged") from error


def below(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """The entries under a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


# --- before the tensors are loaded ---------------------------------------------------------------


def check_info(description: Description, infos: Infos) -> None:
    """Compare names, dtypes and shapes with what the architecture has: all that is there, nothing else."""
    if isinstance(description, PatchedDescription):
        classes = len(description.labels)
        _same("adaptation/weight", _form(infos, "adaptation/weight"), (torch.float32, (classes, classes)))
        _same("adaptation/bias", _form(infos, "adaptation/bias"), (torch.float32, (classes,)))
        weak, strong = below("weak/", infos), below("strong/", infos)
        if len(weak) + len(strong) + 2 != len(infos):
            raise _UnfitError("tensors beside those of its components")
        check_info(description.weak, weak)
        check_info(description.strong, strong)
    elif isinstance(description, CountsDescription):
        _check_counts_info(description, infos, whole=True)
    else:
        _check_weights_info(description, infos)


def _check_weights_info(description: WeightsDescription, infos: Infos) -> None:
    expected = _states(description.architecture)
    weights = {name: info for name, info in infos.items() if not name.startswith(_PARTS)}
    counted = {name: info for name, info in infos.items() if name.startswith((COUNTS, UNITS))}
    unknown = sorted(set(weights) - set(expected)) or sorted(set(description.held) - set(weights))
    missing = [] if description.kind == "composed" else sorted(set(expected) - set(weights))
    if unknown or missing:
        raise _UnfitError(f"{description.architecture.name} has other weights: {_listed(unknown or missing)}")
    index = {number: infos[f"{INDEX}{number}"] for number in range(len(infos)) if f"{INDEX}{number}" in infos}
    for name, info in weights.items():
        dtype, shape = expected[name]
        held = description.held.get(name, ())
        if len(held) > len(shape):
            raise _UnfitError(f"{name!r} is cut along more axes than it has")
        for axis, number in enumerate(held):
            if number is not None:
                shape = (*shape[:axis], _length(index, number), *shape[axis + 1 :])
        _same(name, (info.dtype, info.shape), (dtype, shape))
    used = {number for held in description.held.values() for number in held if number is not None}
    if used != set(index) or len(weights) + len(counted) + len(index) != len(infos):
        raise _UnfitError("index tensors that no weight uses")
    if description.counts is not None:
        _check_counts_info(description.counts, counted, whole=description.kind == "modular")
    elif counted:
        raise _UnfitError("activation counts in a trained model")


def _check_counts_info(description: CountsDescription, infos: Infos, *, whole: bool) -> None:
    layers = _layers(description.architecture)
    expected = {f"{part}{name}" for name in layers for part in (COUNTS, UNITS)}
    if set(infos) != expected:
        raise _UnfitError(f"{description.architecture.name} has other layers: {_listed(set(infos) ^ expected)}")
    for name, units in layers.items():
        held = _length(below(UNITS, infos), name)
        if not 1 <= held <= units or (whole and held != units):
            raise _UnfitError(f"layer {name} has {units} units, the file {held}")
        counts = infos[f"{COUNTS}{name}"]
        _same(f"{COUNTS}{name}", (counts.dtype, counts.shape), (torch.int32, (len(description.labels), held)))


def _listed(names: Collection[str]) -> str:
    """The first few, as they can be printed."""
    return ", ".join(map(repr, sorted(names)[:5]))


def _length(infos: Mapping[T, TensorInfo], name: T) -> int:
    """Of a list of indices."""
    info = infos.get(name)
    if info is None or info.dtype != torch.int64 or len(info.shape) != 1:
        raise _UnfitError(f"no list of indices under {name}")
    return info.shape[0]


def _form(infos: Infos, name: str) -> _Form:
    if name not in infos:
        raise _UnfitError(f"no tensor {name}")
    return infos[name].dtype, infos[name].shape


def _same(name: str, found: _Form, expected: _Form) -> None:
    if found != expected:
        raise _UnfitError(f"{name} is {found[0]} {list(found[1])} and should be {expected[0]} {list(expected[1])}")


@lru_cache(maxsize=64)
def _states(architecture: ArchitectureSpec) -> dict[str, _Form]:
    """Type and shape of every weight, from a network without memory that can run at its image size.

    Raises:
        InvalidInput: for a network that cannot be built, or not be run.
    """
    catalogue.complete(**architecture.to_json())
    network = catalogue.build(architecture, device="meta")
    return {name: (state.dtype, tuple(state.shape)) for name, state in network.state_dict().items()}


def _layers(architecture: ArchitectureSpec) -> dict[str, int]:
    """How many units each layer has."""
    _states(architecture)
    return {layer.name: layer.units for layer in unit_graph(architecture).layers}


# --- after they are loaded -----------------------------------------------------------------------


def check_values(description: Description, tensors: Tensors) -> None:
    """Look at every number: finite weights, indices in range and ascending, counts within the samples."""
    if isinstance(description, PatchedDescription):
        _check_finite({name: tensors[name] for name in ("adaptation/weight", "adaptation/bias")})
        check_values(description.weak, below("weak/", tensors))
        check_values(description.strong, below("strong/", tensors))
    elif isinstance(description, CountsDescription):
        _check_counts(description, tensors)
    else:
        _check_finite({name: tensor for name, tensor in tensors.items() if not name.startswith(_PARTS)})
        _check_indices(description, tensors)
        if description.counts is not None:
            _check_counts(description.counts, tensors)


def _check_finite(weights: Tensors) -> None:
    for name, tensor in weights.items():
        # One pass without a copy: NaN goes into both ends, and infinity is an end.
        if tensor.is_floating_point() and tensor.numel():
            least, most = torch.aminmax(tensor)
            if not (least.isfinite() and most.isfinite()):
                raise _UnfitError(f"{name} has NaN or infinite values")


def _check_indices(description: WeightsDescription, tensors: Tensors) -> None:
    bounds: dict[int, int] = {}
    for name, held in description.held.items():
        shape = _states(description.architecture)[name][1]
        for axis, number in enumerate(held):
            if number is not None:
                bounds[number] = min(shape[axis], bounds.get(number, shape[axis]))
    for number, bound in bounds.items():
        _check_ascending(f"{INDEX}{number}", tensors[f"{INDEX}{number}"], bound)


def _check_counts(description: CountsDescription, tensors: Tensors) -> None:
    samples = torch.tensor(description.samples).unsqueeze(1)
    for name, units in _layers(description.architecture).items():
        _check_ascending(f"{UNITS}{name}", tensors[f"{UNITS}{name}"], units)
        counts = tensors[f"{COUNTS}{name}"]
        if bool((counts < 0).any()) or bool((counts > samples).any()):
            raise _UnfitError(f"{COUNTS}{name} has counts outside [0, samples]")


def _check_ascending(name: str, indices: Shaped[Tensor, "held"], bound: int) -> None:
    if not indices.numel():
        return
    in_range = int(indices[0]) >= 0 and int(indices[-1]) < bound
    if not in_range or bool((indices[1:] <= indices[:-1]).any()):
        raise _UnfitError(f"{name} is not strictly ascending within [0, {bound})")


def check_holds_enough(model: ModularModel) -> None:
    """A composed model must hold every element that composing it from its units asks for."""
    graph = unit_graph(model.architecture)
    for name, needed in plan(graph, held_masks(model), model.rows).held.items():
        if name not in model.weights:
            raise _UnfitError(f"its units need {name}, which is not there")
        for axis, size in enumerate(graph.state_shapes[name]):
            held = dict(enumerate(model.held.get(name, ()))).get(axis)
            wanted = dict(enumerate(needed)).get(axis)
            there = torch.ones(size, dtype=torch.bool)
            if held is not None:
                there.zero_()[held] = True
            if not bool(there.all() if wanted is None else there[torch.as_tensor(wanted)].all()):
                raise _UnfitError(f"its units need more of {name} than is there")
