"""What is asked for, as frozen data: checked where it is made, JSON both ways, one digest each.

A spec's digest is the SHA-256 of its canonical JSON (sorted keys, no spaces): equal requests have
equal digests on every machine. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from moda_core.errors import InvalidInput

__all__ = [
    "AdaptationSpec",
    "ArchitectureSpec",
    "InputSpec",
    "Spec",
    "TrainingSpec",
    "canonical_json",
    "check_labels",
    "check_name",
    "parse_threshold",
    "sha256",
]

LEAST_STD = 1e-6
THRESHOLD_PLACES = 4
_Spec = TypeVar("_Spec", bound="Spec")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no spaces and plain Unicode: the form that is hashed and stored."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str | bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def check_name(field: str, value: str) -> str:
    """The name of a model or data set: 1 to 64 of ``a-z 0-9 . _ -``, a letter or digit at both ends.

    Raises:
        InvalidInput: for any other string.
    """
    if not _NAME.fullmatch(value):
        raise InvalidInput(
            field,
            value,
            "not a name",
            "use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit",
        )
    return value


def check_labels(field: str, labels: Sequence[str], *, at_least: int = 1) -> tuple[str, ...]:
    """Class labels: non-empty, all different, at least `at_least` of them.

    Raises:
        InvalidInput: for an empty list, an empty label, or one that is named twice.
    """
    if len(labels) < at_least:
        raise InvalidInput(field, list(labels), f"fewer than {at_least} classes", f"name at least {at_least}")
    for label in labels:
        if not label or not label.isprintable():
            raise InvalidInput(field, label, "not a class label", "use a non-empty printable string")
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise InvalidInput(field, repeated, "classes named twice", "name every class once")
    return tuple(labels)


def parse_threshold(value: str | int | float | Decimal, *, field: str = "threshold") -> Decimal:
    """τ of eq. 9 as an exact decimal in [0, 1] with at most four places, normalised.

    A float is read by its shortest decimal form, so 0.9 is exactly nine tenths.

    Raises:
        InvalidInput: for anything that is not such a number.
    """
    remedy = "give a decimal from 0 to 1 with at most 4 places, such as 0.9"
    if isinstance(value, bool) or not _DECIMAL.fullmatch(str(value)):
        raise InvalidInput(field, value, "not a number", remedy)
    threshold = Decimal(str(value))
    if not 0 <= threshold <= 1:
        raise InvalidInput(field, value, "outside [0, 1]", remedy)
    rounded = threshold.quantize(Decimal(1).scaleb(-THRESHOLD_PLACES))
    if rounded != threshold:
        raise InvalidInput(field, value, f"more than {THRESHOLD_PLACES} decimal places", remedy)
    return rounded.normalize() + 0


def _in_range(field: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raise unless `value` is a finite number within [low, high] (or (low, high])."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (low < value if open_low else low <= value) or value > high:
        least = f"above {low:g}" if open_low else f"of at least {low:g}"
        most = "" if high == math.inf else f" and at most {high:g}"
        raise InvalidInput(field, value, "out of range", f"give a number {least}{most}")


def _whole(field: str, value: object, low: int, high: int) -> None:
    """Raise unless `value` is an integer within [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidInput(field, value, "out of range", f"give a whole number from {low} to {high}")


def _one_of(field: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidInput(field, value, "not a known choice", f"choose one of {', '.join(allowed)}")


def _of_kind(field: str, value: Any, kind: Any) -> Any:
    """`value`, as a float where one is declared.

    Raises:
        InvalidInput: for a value of another type than the declared one. Choices are not checked here.
    """
    if isinstance(kind, UnionType):
        if value is None:
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_of_kind(field, item, get_args(kind)[0]) for item in value)
    wanted = get_origin(kind) or kind
    if isinstance(wanted, type) and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int)):
        raise InvalidInput(field, value, f"not a {_WORDS.get(wanted, wanted.__name__)}", "give a value of that type")
    return value


_WORDS = {str: "string", bool: "boolean", int: "whole number", float: "number", tuple: "list"}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of all specs: JSON round trip and digest.

    Numbers are stored in the form of their field (1 becomes 1.0 where a float is meant), so that
    equal specs have equal digests.
    """

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _of_kind(name, getattr(self, name), kind))

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON data."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]  # tuples become lists

    @classmethod
    def from_json(cls: type[_Spec], data: Mapping[str, Any]) -> _Spec:  # noqa: PYI019 - beartype cannot check Self
        """The spec that `to_json` wrote.

        Raises:
            InvalidInput: for an unknown or missing field, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise InvalidInput(unknown[0], data[unknown[0]], "unknown field", f"known are {', '.join(sorted(known))}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidInput(cls.__name__, dict(data), str(error), "give every required field") from error

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, with the kind of spec in it."""
        return sha256(canonical_json({"kind": type(self).__name__, **self.to_json()}))


@dataclass(frozen=True, kw_only=True)
class InputSpec(Spec):
    """What a network expects at its door, and how raw pixels become it.

    An image is converted to `channels`, resized to `image_size` x `image_size`, scaled to [0, 1],
    and normalised as (value - mean) / std, channel by channel.
    """

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("image_size", self.image_size, 1, 1024)
        if self.channels not in (1, 3):
            raise InvalidInput("channels", self.channels, "not a number of colour channels", "give 1 (grey) or 3 (RGB)")
        for name, values, least in (("mean", self.mean, 0.0), ("std", self.std, LEAST_STD)):
            if len(values) != self.channels:
                raise InvalidInput(name, values, "wrong length", f"give {self.channels} numbers, one per channel")
            for value in values:
                _in_range(name, value, least, 1.0)


@dataclass(frozen=True, kw_only=True)
class ArchitectureSpec(Spec):
    """A network without its weights: enough to build it again.

    `name` is one of our own (``vgg16 resnet18 mobilenet lenet5 cnn cnn-gelu vit``) or a torchvision classifier
    as ``torchvision/<name>``. `width` multiplies the channels of our own; torchvision's have 1.0.
    """

    name: str
    classes: int
    channels: int = 3
    image_size: int = 32
    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("classes", self.classes, 1, 100_000)
        if self.channels not in (1, 3):
            raise InvalidInput("channels", self.channels, "not a number of colour channels", "give 1 (grey) or 3 (RGB)")
        _whole("image_size", self.image_size, 8, 1024)
        _in_range("width", self.width, 0.0, 16.0, open_low=True)


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Spec):
    """One training run, whole. The defaults are the paper's recipe (section 4.1).

    Attributes:
        dataset: a data-set reference; resolved to its digest before the run is identified.
        architecture: as in `ArchitectureSpec.name`.
        width: width multiplier of our own architectures.
        image_size: pixels per side at the network's door; None takes the architecture's default.
        pretrained: start from torchvision's weights, which are downloaded (torchvision's only).
        objective: ``modular`` adds eq. 7's three terms to the cross-entropy, ``standard`` does not.
        alpha, beta, gamma: weights of affinity (eq. 5), dispersion (eq. 3), compactness (eq. 6).
        weighting: ``class`` averages over classes as the equations do, ``pair`` over sample pairs.
        compactness: ``mean`` over units (what the published results use) or the printed ``sum``.
        epsilon: a unit is active where |y| > epsilon; must be above 0 for activations that never
            reach zero.
        epochs, batch_size, learning_rate, momentum, weight_decay: SGD with Nesterov momentum and
            cosine decay to zero over all epochs.
        crop_padding: pixels of zero padding before a random crop; 0 for none.
        flip: random horizontal mirror images; None asks the data set (digits are not mirrored).
        fraction: the stratified share of the training images that is used, drawn under `seed`.
        seed: of initial weights, order of batches, augmentation and `fraction`.
    """

    dataset: str
    architecture: str
    width: float = 1.0
    image_size: int | None = None
    pretrained: bool = False
    objective: Literal["modular", "standard"] = "modular"
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.3
    weighting: Literal["class", "pair"] = "class"
    compactness: Literal["mean", "sum"] = "mean"
    epsilon: float = 0.0
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    crop_padding: int = 4
    flip: bool | None = None
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _in_range("width", self.width, 0.0, 16.0, open_low=True)
        if self.image_size is not None:
            _whole("image_size", self.image_size, 8, 1024)
        _one_of("objective", self.objective, ("modular", "standard"))
        _one_of("weighting", self.weighting, ("class", "pair"))
        _one_of("compactness", self.compactness, ("mean", "sum"))
        for name in ("alpha", "beta", "gamma", "epsilon", "weight_decay"):
            _in_range(name, getattr(self, name), 0.0, 1e6)
        _whole("epochs", self.epochs, 1, 100_000)
        _whole("batch_size", self.batch_size, 1, 65_536)
        _in_range("learning_rate", self.learning_rate, 0.0, 1e3, open_low=True)
        _in_range("momentum", self.momentum, 0.0, 0.9999)
        _whole("crop_padding", self.crop_padding, 0, 64)
        _in_range("fraction", self.fraction, 0.0, 1.0, open_low=True)
        _whole("seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class AdaptationSpec(Spec):
    """How the adaptation layer of a replacement learns (section 3.3 of the paper).

    `initial` is ``identity`` (the plain splice, whose accuracy it then only improves on the
    training data) or ``normal`` (N(0, 0.01)).
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    initial: Literal["identity", "normal"] = "identity"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("epochs", self.epochs, 0, 100_000)
        _whole("batch_size", self.batch_size, 1, 65_536)
        _in_range("learning_rate", self.learning_rate, 0.0, 1e3, open_low=True)
        _in_range("momentum", self.momentum, 0.0, 0.9999)
        _one_of("initial", self.initial, ("identity", "normal"))
        _whole("seed", self.seed, 0, 2**63 - 1)
