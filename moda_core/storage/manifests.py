"""What is stored beside the tensors: immutable JSON, named by the SHA-256 of its canonical form.

A manifest has no name or version of its own; those are records that point at its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, get_args

from moda_core.errors import InvalidInput, UnreadableFile
from moda_core.files import parse_json
from moda_core.modularity.models import Kind
from moda_core.specs import ArchitectureSpec, InputSpec, canonical_json, check_labels, parse_threshold, sha256
from moda_core.storage.references import check_digest

__all__ = [
    "FORMAT",
    "JSON",
    "BlobRef",
    "Composition",
    "DatasetManifest",
    "Manifest",
    "canonical_threshold",
    "check_fields",
    "parse_manifest",
]

FORMAT = 1
JSON = dict[str, Any]


def canonical_threshold(threshold: Decimal) -> str:
    """τ as it enters every name and digest: plain digits, no trailing zeros."""
    return format(threshold.normalize() + 0, "f")


@dataclass(frozen=True)
class BlobRef:
    """Bytes by their SHA-256 and length."""

    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        check_digest("digest", self.digest)
        if type(self.size_bytes) is not int or self.size_bytes < 0:
            raise InvalidInput("size_bytes", self.size_bytes, "not a length", "give a whole number from 0")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What every manifest can do: canonical JSON both ways, and a digest."""

    format: int = FORMAT

    def to_json(self) -> JSON:
        """The manifest as plain JSON data."""
        raise NotImplementedError

    def canonical(self) -> bytes:
        """The bytes that are stored, and that the digest names."""
        return canonical_json(self.to_json()).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256(self.canonical())


@dataclass(frozen=True, kw_only=True)
class Manifest(_Stored):
    """Everything about a stored model but its tensors.

    Attributes:
        architecture: of the root, for a composed model.
        labels: in the order of the logits.
        rows: the root's class indices of `labels`; None where the model is no cut.
        spec: what was asked, as JSON, references resolved; None for a file that came from outside.
        spec_digest: the identity of `spec`.
        execution: where and how it ran: threads, device class, library versions.
        dataset: ``{"digest", "fraction", "seed"}`` of the training images.
        threshold: τ of a modular or composed model.
        metrics: accuracies and the like, per class where that makes sense.
        sizes, overlaps: of the modules, as `moda_core.modularity.measures` counts them.
        lineage: ``{"parents": [digest, ...]}``.
        blobs: by role: ``weights``, ``counts`` and ``modules/<label>``.
    """

    kind: Kind
    architecture: ArchitectureSpec
    labels: tuple[str, ...]
    input: InputSpec
    blobs: Mapping[str, BlobRef]
    rows: tuple[int, ...] | None = None
    threshold: Decimal | None = None
    spec: JSON | None = None
    spec_digest: str | None = None
    execution: JSON = field(default_factory=dict)
    dataset: JSON | None = None
    metrics: JSON = field(default_factory=dict)
    sizes: JSON = field(default_factory=dict)
    overlaps: JSON = field(default_factory=dict)
    lineage: JSON = field(default_factory=lambda: {"parents": []})

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInput("kind", self.kind, "not a kind of model", f"give one of {', '.join(get_args(Kind))}")
        check_labels("labels", self.labels)
        if "weights" not in self.blobs:
            raise InvalidInput("blobs", sorted(self.blobs), "no weights among them", "name a blob for 'weights'")

    def to_json(self) -> JSON:
        """The manifest as plain JSON data."""
        rest = {name: getattr(self, name) for name in ("format", "kind", *_PLAIN)}
        return rest | {
            "architecture": self.architecture.to_json(),
            "labels": list(self.labels),
            "rows": None if self.rows is None else list(self.rows),
            "input": self.input.to_json(),
            "threshold": None if self.threshold is None else canonical_threshold(self.threshold),
            "blobs": {role: asdict(blob) for role, blob in self.blobs.items()},
        }

    @classmethod
    def from_json(cls, data: JSON) -> Manifest:
        """The manifest that `to_json` wrote.

        Raises:
            InvalidInput: for a field that is missing, unknown or wrong.
        """
        fields = {"format", "kind", "architecture", "labels", "rows", "input", "threshold", "blobs", *_PLAIN}
        check_fields("manifest", data, fields)
        return cls(
            format=data["format"],
            kind=data["kind"],
            architecture=ArchitectureSpec.from_json(data["architecture"]),
            labels=tuple(data["labels"]),
            rows=None if data["rows"] is None else tuple(data["rows"]),
            input=InputSpec.from_json(data["input"]),
            threshold=None if data["threshold"] is None else parse_threshold(data["threshold"]),
            blobs={role: BlobRef(**blob) for role, blob in data["blobs"].items()},
            **{name: data[name] for name in _PLAIN},
        )


_PLAIN = ("spec", "spec_digest", "execution", "dataset", "metrics", "sizes", "overlaps", "lineage")


@dataclass(frozen=True, kw_only=True)
class DatasetManifest(_Stored):
    """A stored data set: its classes, its size, and the blob that holds its images.

    Attributes:
        mirror: whether a mirrored image still shows its class.
        images: ``{"train": n, "test": n}``.
        shape: channels, height and width of every image.
    """

    classes: tuple[str, ...]
    mirror: bool
    images: Mapping[str, int]
    shape: tuple[int, int, int]
    blob: BlobRef

    def __post_init__(self) -> None:
        check_labels("classes", self.classes, at_least=2)

    def to_json(self) -> JSON:
        """The manifest as plain JSON data."""
        return {
            "format": self.format,
            "kind": "dataset",
            "classes": list(self.classes),
            "mirror": self.mirror,
            "images": dict(self.images),
            "shape": list(self.shape),
            "blob": asdict(self.blob),
        }

    @classmethod
    def from_json(cls, data: JSON) -> DatasetManifest:
        """The manifest that `to_json` wrote.

        Raises:
            InvalidInput: for a field that is missing, unknown or wrong.
        """
        check_fields("manifest", data, {"format", "kind", "classes", "mirror", "images", "shape", "blob"})
        channels, height, width = data["shape"]
        return cls(
            format=data["format"],
            classes=tuple(data["classes"]),
            mirror=data["mirror"],
            images=data["images"],
            shape=(channels, height, width),
            blob=BlobRef(**data["blob"]),
        )


def check_fields(what: str, data: Mapping[str, Any], expected: set[str]) -> None:
    """Raise `InvalidInput` unless `data`, called `what`, has these fields and no others."""
    different = sorted(set(data) ^ expected)
    if different:
        raise InvalidInput(what, different, "unknown or missing fields", f"give {', '.join(sorted(expected))}")


def parse_manifest(data: bytes) -> Manifest | DatasetManifest:
    """Read the bytes of any manifest.

    Raises:
        UnreadableFile: for bytes that are no manifest of this format.
    """
    remedy = f"store it again in format {FORMAT}"
    try:
        content = parse_json(data)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InvalidInput("format", content, "another format", remedy)
        reader = DatasetManifest if content.get("kind") == "dataset" else Manifest
        return reader.from_json(content)
    except (ValueError, TypeError, AttributeError, KeyError, InvalidInput) as error:
        raise UnreadableFile("manifest", data[:80], f"not a manifest ({error})", remedy) from error


@dataclass(frozen=True)
class Composition:
    """The recipe of a composed model; its id is the same for the same request, everywhere.

    Attributes:
        model: digest of the manifest *named in the request*; what a file claims about its root
            never enters the id.
        labels: sorted here, whatever order they came in.
    """

    model: str
    labels: tuple[str, ...]
    threshold: Decimal

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(check_labels("classes", self.labels))))
        object.__setattr__(self, "threshold", parse_threshold(self.threshold))

    def to_json(self) -> JSON:
        """The recipe as stored, and as hashed."""
        threshold = canonical_threshold(self.threshold)
        return {"format": FORMAT, "model": self.model, "classes": list(self.labels), "threshold": threshold}

    @property
    def id(self) -> str:
        """SHA-256 over format version, model, sorted labels and canonical τ."""
        return sha256(canonical_json(self.to_json()))

    @classmethod
    def from_json(cls, data: JSON) -> Composition:
        """The recipe that `to_json` wrote."""
        return cls(data["model"], tuple(data["classes"]), parse_threshold(data["threshold"]))
