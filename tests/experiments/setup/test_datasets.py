"""Data sets by name and by content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from experiments.setup.datasets import dataset_digest, named
from moda_core.data.digits import load_digits


def test_a_data_set_is_named_after_its_file_or_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    path.touch()
    assert named(str(path)) == ("cifar10", path)
    assert named(f"small={path}") == ("small", path)
    assert named("digits") == ("digits", None)


def test_data_sets_that_may_and_may_not_be_mirrored_are_two() -> None:
    """Where they may, the digest is that of names, images and labels alone, under which models were trained before."""
    digits = load_digits()
    may = replace(digits, mirror=True)
    parts = [json.dumps(list(digits.classes), separators=(",", ":")).encode()]
    for images in (digits.train, digits.test):
        parts += [images.pixels.numpy().tobytes(), images.labels.numpy().tobytes()]
    joined = "".join(hashlib.sha256(part).hexdigest() for part in parts)
    assert dataset_digest(may) == hashlib.sha256(joined.encode()).hexdigest()
    assert not digits.mirror
    assert dataset_digest(digits) != dataset_digest(may)
