import json
from dataclasses import replace
from decimal import Decimal

import pytest

from moda_core.errors import InvalidInput, UnreadableFile
from moda_core.specs import ArchitectureSpec, InputSpec, sha256
from moda_core.storage.manifests import (
    BlobRef,
    Composition,
    DatasetManifest,
    Manifest,
    canonical_threshold,
    parse_manifest,
)

BLOB = BlobRef("a" * 64, 10)
MODEL = Manifest(
    kind="composed",
    architecture=ArchitectureSpec(name="cnn", classes=3),
    labels=("cat", "dög"),
    rows=(0, 2),
    input=InputSpec(image_size=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
    blobs={"weights": BLOB, "modules/cat": BLOB},
    threshold=Decimal("0.90"),
    spec={"seed": 1},
    metrics={"accuracy": 0.1},
)
DATASET = DatasetManifest(
    classes=("even", "odd"), mirror=True, images={"train": 2, "test": 2}, shape=(1, 8, 8), blob=BLOB
)


@pytest.mark.parametrize("manifest", [MODEL, DATASET])
def test_bytes_give_back_the_manifest_and_its_digest_names_them(manifest: Manifest | DatasetManifest) -> None:
    assert parse_manifest(manifest.canonical()) == manifest
    assert manifest.digest == sha256(manifest.canonical())


def test_equal_manifests_have_equal_digests_whatever_their_order() -> None:
    turned = replace(MODEL, blobs=dict(reversed(MODEL.blobs.items())), threshold=Decimal("0.9"))
    assert turned.digest == MODEL.digest
    assert replace(MODEL, metrics={}).digest != MODEL.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "another format"),
        ({"format": None}, "another format"),
        ({"kind": "pickle"}, "kind"),
        ({"more": 1}, "more"),
        ({"blobs": {}}, "weights"),
        ({"blobs": {"weights": {"digest": "../x", "size_bytes": 1}}}, "SHA-256"),
        ({"blobs": {"weights": {"digest": "a" * 64, "size_bytes": -1}}}, "length"),
        ({"blobs": {"weights": {"digest": "a" * 64}}}, "size_bytes"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"threshold": "2"}, "threshold"),
        ({"architecture": {"name": "cnn"}}, "classes"),
    ],
)
def test_what_is_no_manifest_is_unreadable_and_says_why(change: dict, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        parse_manifest(json.dumps(json.loads(MODEL.canonical()) | change).encode())


def test_a_field_that_stands_twice_is_unreadable() -> None:
    with pytest.raises(UnreadableFile, match="stands twice"):
        parse_manifest(MODEL.canonical().replace(b"{", b'{"format":1,', 1))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_other_bytes_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableFile):
        parse_manifest(data)


@pytest.mark.parametrize(
    ("threshold", "text"), [("0.90", "0.9"), ("1", "1"), ("1.0000", "1"), ("0", "0"), ("0E-2", "0"), ("1E-4", "0.0001")]
)
def test_a_threshold_has_one_canonical_form(threshold: str, text: str) -> None:
    assert canonical_threshold(Decimal(threshold)) == text


def test_a_composition_is_identified_by_model_classes_and_threshold_alone() -> None:
    recipe = Composition("b" * 64, ("dog", "cat"), Decimal("0.90"))
    assert recipe.labels == ("cat", "dog")
    assert Composition("b" * 64, ("cat", "dog"), Decimal("0.9")).id == recipe.id
    others = [
        Composition("c" * 64, ("cat", "dog"), Decimal("0.9")),
        Composition("b" * 64, ("cat",), Decimal("0.9")),
        Composition("b" * 64, ("cat", "dog"), Decimal("0.8")),
    ]
    assert len({recipe.id, *(other.id for other in others)}) == 4
    assert Composition.from_json(recipe.to_json()) == recipe


def test_a_composition_names_its_classes_once() -> None:
    for labels in ((), ("cat", "cat")):
        with pytest.raises(InvalidInput):
            Composition("b" * 64, labels, Decimal("0.9"))
