"""Models as safetensors files, and back.

One kind of file for all: weights under their ``state_dict`` names, and beside them, for a modular or
composed model, ``counts/<layer>`` and ``units/<layer>``; for a composed one also ``index/<n>``, the root's
indices that its cut weights hold, each list once. A patched model holds its components under ``weak/`` and
``strong/`` and its ``adaptation/weight`` and ``adaptation/bias``. All else is the description in the
metadata. The bytes depend on the model alone: not on time, host, library or the order of its dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jaxtyping import Shaped
from torch import Tensor

from moda_core.errors import UnreadableFile
from moda_core.modularity.models import ActivationCounts, Model, ModularModel, PatchedModel, TrainedModel, kind_of
from moda_core.storage.admission import (
    COUNTS,
    INDEX,
    UNITS,
    below,
    check_holds_enough,
    check_info,
    check_values,
    fitting,
)
from moda_core.storage.descriptions import (
    CountsDescription,
    Description,
    PatchedDescription,
    WeightsDescription,
    parse_description,
)
from moda_core.storage.manifests import Manifest
from moda_core.storage.tensorfiles import Header, check_content, load_tensors, read_header, save_tensors

__all__ = ["check_described", "decode", "encode", "encode_counts"]

Tensors = dict[str, Shaped[Tensor, "..."]]


def encode(model: Model) -> bytes:
    """The file of a model, whole: it suffices to rebuild the model."""
    description, tensors = _described(model)
    return save_tensors(tensors, description.to_json())


def encode_counts(model: ModularModel) -> bytes:
    """The counts of an uncut modular model as a file of their own, to lie beside the trained model's."""
    return save_tensors(_counted(model.counts), _counts_description(model).to_json())


def decode(path: Path, *, counts: Path | None = None, verify: bool = True) -> Model:
    """The model of a file, its tensors mapped into memory: read when touched.

    Args:
        path: as `encode` wrote it.
        counts: as `encode_counts` wrote it; with it a trained model becomes modular, and a modular
            one modular by these counts.
        verify: compare the bytes with the digest inside the file; for files whose digest was not
            checked otherwise.

    Raises:
        NotFound: without such a file.
        UnreadableFile: for any other file, naming what differs.
        Corrupt: when the bytes were altered.
    """
    header, description = _read(path)
    if isinstance(description, CountsDescription):
        raise UnreadableFile("file", path.name, "activation counts without a model", "give the model's weights")
    tensors = _loaded(path, header, description, verify=verify)
    with fitting(path.name):
        model = _model(description, tensors)
        _check_cuts(model)
    if counts is None:
        return model
    if isinstance(model, PatchedModel) or (isinstance(model, ModularModel) and model.composed):
        problem = f"counts beside a {kind_of(model)} model"
        raise UnreadableFile("file", path.name, problem, "give the trained model that they were counted on")
    return _joined(model, counts, verify=verify)


def check_described(model: Model, manifest: Manifest) -> None:
    """Compare a decoded model with what its manifest says of it.

    Raises:
        UnreadableFile: naming what differs.
    """
    described: dict[str, object] = {"kind": kind_of(model), "labels": model.labels}
    if not isinstance(model, PatchedModel):
        described |= {"architecture": model.architecture, "input": model.input}
    if isinstance(model, ModularModel):
        described["threshold"] = model.threshold
    for name, value in described.items():
        if getattr(manifest, name) != value:
            problem = f"another {name} than its manifest says ({getattr(manifest, name)!r:.60})"
            raise UnreadableFile("file", value, problem, "restore the model's files, or publish it again")


# --- out -----------------------------------------------------------------------------------------


def _described(model: Model) -> tuple[Description, Tensors]:
    if isinstance(model, PatchedModel):
        weak, weak_tensors = _described(model.weak)
        strong, strong_tensors = _described(model.strong)
        assert isinstance(strong, WeightsDescription)
        tensors = {f"weak/{name}": tensor for name, tensor in weak_tensors.items()}
        tensors |= {f"strong/{name}": tensor for name, tensor in strong_tensors.items()}
        tensors |= {"adaptation/weight": model.weight, "adaptation/bias": model.bias}
        return PatchedDescription(label=model.label, weak=weak, strong=strong), tensors
    if isinstance(model, TrainedModel):
        return _weights_description("trained", model, {}), dict(model.weights)
    held, index = _indexed(model)
    description = _weights_description("composed" if model.composed else "modular", model, held)
    return description, dict(model.weights) | _counted(model.counts) | index


def _weights_description(
    kind: Literal["trained", "modular", "composed"],
    model: TrainedModel | ModularModel,
    held: Mapping[str, tuple[int | None, ...]],
) -> WeightsDescription:
    return WeightsDescription(
        kind=kind,
        architecture=model.architecture,
        labels=tuple(model.labels),
        input=model.input,
        counts=_counts_description(model) if isinstance(model, ModularModel) else None,
        held=held,
    )


def _counts_description(model: ModularModel) -> CountsDescription:
    return CountsDescription(
        architecture=model.architecture,
        labels=tuple(model.labels),
        rows=tuple(model.rows),
        samples=tuple(model.counts.samples),
        epsilon=model.counts.epsilon,
        threshold=model.threshold,
    )


def _counted(counts: ActivationCounts) -> Tensors:
    tensors = {f"{COUNTS}{layer}": tensor for layer, tensor in counts.counts.items()}
    return tensors | {f"{UNITS}{layer}": tensor for layer, tensor in counts.units.items()}


def _indexed(model: ModularModel) -> tuple[dict[str, tuple[int | None, ...]], Tensors]:
    """Number the different index lists in the order of the weights' names."""
    numbers: dict[bytes, int] = {}
    index: Tensors = {}
    held: dict[str, tuple[int | None, ...]] = {}
    for name in sorted(model.held):
        axes: list[int | None] = []
        for indices in model.held[name]:
            if indices is None:
                axes.append(None)
                continue
            indices = indices.cpu().contiguous()  # noqa: PLW2901 - the same list, where its bytes can be read
            number = numbers.setdefault(indices.numpy().tobytes(), len(numbers))
            index[f"{INDEX}{number}"] = indices
            axes.append(number)
        while axes and axes[-1] is None:
            axes.pop()
        if axes:
            held[name] = tuple(axes)
    return held, index


# --- in ------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[Header, Description | CountsDescription]:
    """The header of a file, checked against its architecture; no tensor is loaded yet."""
    header = read_header(path)
    description = parse_description(header.meta, path.name)
    with fitting(path.name):
        check_info(description, header.tensors)
    return header, description


def _loaded(path: Path, header: Header, description: Description | CountsDescription, *, verify: bool) -> Tensors:
    if verify:
        check_content(path, header)
    tensors = load_tensors(path, header, verify=False)
    with fitting(path.name):
        check_values(description, tensors)
    return tensors


def _joined(model: TrainedModel | ModularModel, counts: Path, *, verify: bool) -> ModularModel:
    header, description = _read(counts)
    if not isinstance(description, CountsDescription):
        raise UnreadableFile("file", counts.name, "not activation counts", "give the counts of the model")
    for name in ("architecture", "labels"):
        if getattr(description, name) != getattr(model, name):
            raise UnreadableFile("file", counts.name, f"counts of a model with another {name}", "give its own counts")
    tensors = _loaded(counts, header, description, verify=verify)
    return ModularModel(
        architecture=model.architecture,
        labels=model.labels,
        rows=description.rows,
        input=model.input,
        weights=model.weights,
        counts=_activation_counts(description, tensors),
        threshold=description.threshold,
    )


def _model(description: Description, tensors: Tensors) -> Model:
    if isinstance(description, PatchedDescription):
        strong = _model(description.strong, below("strong/", tensors))
        assert isinstance(strong, ModularModel)
        return PatchedModel(
            weak=_model(description.weak, below("weak/", tensors)),
            strong=strong,
            label=description.label,
            weight=tensors["adaptation/weight"],
            bias=tensors["adaptation/bias"],
        )
    weights = {name: t for name, t in tensors.items() if not name.startswith((COUNTS, UNITS, INDEX))}
    if description.counts is None:
        return TrainedModel(description.architecture, description.labels, description.input, weights)
    held = {
        name: tuple(None if number is None else tensors[f"{INDEX}{number}"] for number in numbers)
        for name, numbers in description.held.items()
    }
    return ModularModel(
        architecture=description.architecture,
        labels=description.labels,
        rows=description.counts.rows,
        input=description.input,
        weights=weights,
        counts=_activation_counts(description.counts, tensors),
        threshold=description.counts.threshold,
        held=held,
        composed=description.kind == "composed",
    )


def _activation_counts(description: CountsDescription, tensors: Tensors) -> ActivationCounts:
    return ActivationCounts(
        counts=below(COUNTS, tensors),
        units=below(UNITS, tensors),
        samples=description.samples,
        epsilon=description.epsilon,
    )


def _check_cuts(model: Model) -> None:
    if isinstance(model, PatchedModel):
        _check_cuts(model.weak)
        _check_cuts(model.strong)
    elif isinstance(model, ModularModel) and model.composed:
        check_holds_enough(model)
