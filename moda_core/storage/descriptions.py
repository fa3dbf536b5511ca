"""What a model's file says of it: all but the tensors, as the canonical JSON under ``moda``.

With the tensors it suffices to rebuild the model, without a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeVar

from moda_core.errors import InvalidInput, UnreadableFile
from moda_core.modularity.models import Kind
from moda_core.specs import ArchitectureSpec, InputSpec, check_labels, parse_threshold
from moda_core.storage.manifests import FORMAT, JSON, canonical_threshold, check_fields

__all__ = ["CountsDescription", "Description", "PatchedDescription", "WeightsDescription", "parse_description"]

_DEEPEST = 64
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CountsDescription:
    """Of activation counts: whose they are, and over how many samples.

    Attributes:
        samples: per class, from 1.
        threshold: τ of the model they belong to.
    """

    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    samples: tuple[int, ...]
    epsilon: float
    threshold: Decimal

    def __post_init__(self) -> None:
        classes, rows = self.architecture.classes, self.rows
        if len(rows) != len(self.labels) or list(rows) != sorted(set(rows)) or not all(0 <= r < classes for r in rows):
            remedy = f"give one class index below {classes} for every label, ascending"
            raise InvalidInput("rows", rows, "not the root's indices of the classes", remedy)
        if len(self.samples) != len(self.labels) or not all(0 < count < 2**31 for count in self.samples):
            raise InvalidInput("samples", self.samples, "not a number of samples for every class", "count them again")
        if not 0 <= self.epsilon <= 1e6:
            raise InvalidInput("epsilon", self.epsilon, "out of range", "give a number from 0")

    def to_json(self) -> JSON:
        """The description as metadata."""
        return {
            "format": FORMAT,
            "kind": "counts",
            "architecture": self.architecture.to_json(),
            "labels": list(self.labels),
            "rows": list(self.rows),
            "samples": list(self.samples),
            "epsilon": float(self.epsilon),
            "threshold": canonical_threshold(self.threshold),
        }


@dataclass(frozen=True, kw_only=True)
class WeightsDescription:
    """Of a trained, modular or composed model.

    Attributes:
        counts: of a modular or composed model.
        held: per cut weight, the number of the index tensor of each leading axis; None for a whole axis.
    """

    kind: Literal["trained", "modular", "composed"]
    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    input: InputSpec
    counts: CountsDescription | None
    held: Mapping[str, tuple[int | None, ...]]

    def __post_init__(self) -> None:
        classes = self.architecture.classes
        if self.kind != "composed" and (len(self.labels) != classes or self.held):
            remedy = f"store it whole, with {classes} labels"
            raise InvalidInput("labels", self.labels, f"not the labels of a whole {self.kind} model", remedy)
        for name in ("channels", "image_size"):
            asked, given = getattr(self.architecture, name), getattr(self.input, name)
            if asked != given:
                raise InvalidInput(f"input.{name}", given, "not what the network takes", f"give {asked}")

    def to_json(self) -> JSON:
        """The description as metadata."""
        base = {
            "format": FORMAT,
            "kind": self.kind,
            "architecture": self.architecture.to_json(),
            "labels": list(self.labels),
            "input": self.input.to_json(),
        }
        if self.counts is None:
            return base
        held = {"held": {name: list(numbers) for name, numbers in self.held.items()}}
        return self.counts.to_json() | base | (held if self.kind == "composed" else {})


@dataclass(frozen=True, kw_only=True)
class PatchedDescription:
    """Of a weak model patched with a strong module of one class."""

    label: str
    weak: WeightsDescription | PatchedDescription
    strong: WeightsDescription

    def __post_init__(self) -> None:
        if self.label not in self.labels:
            raise InvalidInput("label", self.label, "not a class of the weak model", "name one of its classes")
        if self.strong.counts is None or self.strong.labels != (self.label,):
            remedy = f"give a composed model of {self.label!r} alone"
            raise InvalidInput("strong", self.strong.labels, "not the module of the class", remedy)

    @property
    def labels(self) -> tuple[str, ...]:
        """The weak model's."""
        return self.weak.labels

    def to_json(self) -> JSON:
        """The description as metadata."""
        parts = {"weak": self.weak.to_json(), "strong": self.strong.to_json()}
        return {"format": FORMAT, "kind": "patched", "label": self.label, **parts}


Description = WeightsDescription | PatchedDescription


def parse_description(meta: Mapping[str, Any], file: str) -> Description | CountsDescription:
    """Read the metadata of a model's file, or of a counts file.

    Raises:
        UnreadableFile: naming what is wrong or of another format.
    """
    try:
        return _parse(meta, 0)
    except (InvalidInput, ArithmeticError, ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"its metadata is not a model's: {error}" if not isinstance(error, KeyError) else f"it lacks {error}"
        raise UnreadableFile("file", file, problem, "use a file that MODA wrote") from error


def _parse(meta: Mapping[str, Any], depth: int) -> Description | CountsDescription:
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']!r}, where this version reads {FORMAT}")
    kind = meta["kind"]
    if kind == "counts":
        return _counts(meta, "counts")
    if kind in {"trained", "modular", "composed"}:
        return _weights(meta, kind)
    if kind != "patched" or depth > _DEEPEST:
        raise ValueError(f"it is a {kind!r}, not a model")
    check_fields("metadata", meta, {"format", "kind", "label", "weak", "strong"})
    weak, strong = (_parse(_object(meta[part]), depth + 1) for part in ("weak", "strong"))
    if isinstance(weak, CountsDescription) or not isinstance(strong, WeightsDescription):
        raise ValueError("its components are not a model and a module")  # noqa: TRY004 - unreadable like the rest
    return PatchedDescription(label=_text(meta["label"]), weak=weak, strong=strong)


_COUNTED = {"rows", "samples", "epsilon", "threshold"}


def _counts(meta: Mapping[str, Any], kind: Kind | Literal["counts"]) -> CountsDescription:
    if kind == "counts":
        check_fields("metadata", meta, {"format", "kind", "architecture", "labels", *_COUNTED})
    return CountsDescription(
        architecture=ArchitectureSpec.from_json(_object(meta["architecture"])),
        labels=check_labels("labels", _all(_text, meta["labels"])),
        rows=_all(_integer, meta["rows"]),
        samples=_all(_integer, meta["samples"]),
        epsilon=_number(meta["epsilon"]),
        threshold=parse_threshold(_text(meta["threshold"])),
    )


def _weights(meta: Mapping[str, Any], kind: Literal["trained", "modular", "composed"]) -> WeightsDescription:
    counted = kind != "trained"
    fields = {"format", "kind", "architecture", "labels", "input"} | (_COUNTED if counted else set())
    check_fields("metadata", meta, fields | ({"held"} if kind == "composed" else set()))
    held = meta.get("held", {})
    return WeightsDescription(
        kind=kind,
        architecture=ArchitectureSpec.from_json(_object(meta["architecture"])),
        labels=check_labels("labels", _all(_text, meta["labels"])),
        input=InputSpec.from_json(_object(meta["input"])),
        counts=_counts(meta, kind) if counted else None,
        held={name: _all(_optional_integer, numbers) for name, numbers in _object(held).items()},
    )


def _all(read: Callable[[Any], T], values: object) -> tuple[T, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.40} is not a list")
    return tuple(map(read, values))


def _object(value: object) -> JSON:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a string")
    return value


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is not a whole number")
    return value


def _optional_integer(value: object) -> int | None:
    return None if value is None else _integer(value)


def _number(value: object) -> float:
    if type(value) not in {int, float}:
        raise TypeError(f"{value!r:.40} is not a number")
    return float(value)  # type: ignore[arg-type]  # the line above is the check
