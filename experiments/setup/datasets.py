"""Data sets: how they are named on the command line, and what identifies one."""

from __future__ import annotations

import os
from pathlib import Path

from moda_core.data.dataset import Dataset
from moda_core.errors import InvalidInput
from moda_core.specs import canonical_json, sha256

__all__ = ["DIGITS", "dataset_digest", "named"]

DIGITS = "digits"
"""Those that come with scikit-learn."""


def named(dataset: str) -> tuple[str, Path | None]:
    """Name and file of ``NAME=PATH``, ``PATH`` or ``digits``.

    Raises:
        InvalidInput: for a name that no result file can have, and for a file that is not there.
    """
    if dataset == DIGITS:
        return DIGITS, None
    name, equals, path = dataset.partition("=")
    source = Path(path if equals else dataset)
    name = name if equals else source.stem
    if not name or set(name) & set("/\\-" + os.sep):
        remedy = "give NAME=PATH, as in cifar10=data.npz, with no slash and no hyphen in the name"
        raise InvalidInput("--dataset", dataset, "no name for the names of result files", remedy)
    if not source.is_file():
        raise InvalidInput("--dataset", str(source), "there is no such file", "give the path of an .npz file")
    return name, source


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256 over class names, images, labels, and that they must not be mirrored: what a training spec calls its data set."""
    parts = [canonical_json(list(dataset.classes)).encode()]
    for images in (dataset.train, dataset.test):
        parts += [images.pixels.numpy().tobytes(), images.labels.numpy().tobytes()]
    if not dataset.mirror:
        parts.append(b"mirror: false")
    return sha256("".join(sha256(part) for part in parts))
