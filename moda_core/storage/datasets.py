"""Data sets as safetensors files, and back: images as uint8, labels as int64, train and test."""

from __future__ import annotations

from pathlib import Path

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import InvalidInput, UnreadableFile
from moda_core.storage.manifests import FORMAT, JSON, BlobRef, DatasetManifest
from moda_core.storage.tensorfiles import load_tensors, read_header, save_tensors

__all__ = ["decode", "encode", "manifest_of"]

_NAMES = {"train/pixels", "train/labels", "test/pixels", "test/labels"}


def encode(dataset: Dataset) -> bytes:
    """The file of a data set; the same images, the same bytes."""
    tensors = {
        "train/pixels": dataset.train.pixels,
        "train/labels": dataset.train.labels,
        "test/pixels": dataset.test.pixels,
        "test/labels": dataset.test.labels,
    }
    return save_tensors(tensors, _meta(dataset.classes, mirror=dataset.mirror))


def manifest_of(dataset: Dataset, blob: BlobRef) -> DatasetManifest:
    """The manifest of a data set whose file is `blob`."""
    channels, height, width = dataset.train.pixels.shape[1:]
    return DatasetManifest(
        classes=tuple(dataset.classes),
        mirror=dataset.mirror,
        images={"train": len(dataset.train.labels), "test": len(dataset.test.labels)},
        shape=(channels, height, width),
        blob=blob,
    )


def decode(path: Path, manifest: DatasetManifest) -> Dataset:
    """The data set of a file whose digest was checked, its images mapped into memory.

    Raises:
        UnreadableFile: for a file that is not this data set's.
    """
    header = read_header(path)
    if header.meta != _meta(manifest.classes, mirror=manifest.mirror) or set(header.tensors) != _NAMES:
        raise UnreadableFile("file", path.name, "not the data set that its manifest describes", "import it again")
    tensors = load_tensors(path, header, verify=False)
    try:
        return Dataset(
            classes=manifest.classes,
            train=Images(tensors["train/pixels"], tensors["train/labels"]),
            test=Images(tensors["test/pixels"], tensors["test/labels"]),
            mirror=manifest.mirror,
        )
    except InvalidInput as error:
        raise UnreadableFile("file", path.name, f"not a data set: {error}", "import it again") from error


def _meta(classes: tuple[str, ...], *, mirror: bool) -> JSON:
    return {"format": FORMAT, "kind": "dataset", "classes": list(classes), "mirror": mirror}
