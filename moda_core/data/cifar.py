"""CIFAR-10 and CIFAR-100 (fine labels) from their official *binary* archives, packed or unpacked.

The better-known Python archives are pickles, which run code when they are read; these are plain bytes.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.data.downloads import Download
from moda_core.errors import TooLarge, UnreadableFile

__all__ = ["CIFAR10", "CIFAR100", "Format", "load_cifar"]

_SIDE, _CHANNELS = 32, 3
_PIXEL_BYTES = _CHANNELS * _SIDE * _SIDE
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Format:
    """One of the two archives.

    Attributes:
        label_bytes: bytes before the pixels of a record, of which the last is the label.
    """

    archive: Download
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    class_names: str
    label_bytes: int


CIFAR10 = Format(
    archive=Download(
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test=("test_batch.bin",),
    class_names="batches.meta.txt",
    label_bytes=1,
)
CIFAR100 = Format(
    archive=Download(
        "cifar-100-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    class_names="fine_label_names.txt",
    label_bytes=2,
)


def load_cifar(path: Path, format: Format) -> Dataset:  # noqa: A002 - the word for it
    """The data set from its archive, its unpacked folder, or a folder in which either lies.

    Raises:
        UnreadableFile: for a broken archive, a missing file, or one that is not made of whole records.
        InvalidInput: for labels that make no data set.
    """
    files = _files(path, format)
    classes = tuple(files[format.class_names].decode("utf-8", errors="replace").split())
    train = _images(files, format.train, format.label_bytes)
    return Dataset(classes, train, _images(files, format.test, format.label_bytes), mirror=True)


def _files(path: Path, format: Format) -> Mapping[str, bytes]:  # noqa: A002
    wanted = {*format.train, *format.test, format.class_names}
    places = (path / format.folder, path, path / format.archive.name)
    place = next((place for place in places if _holds(place, format)), None)
    if place is None:
        raise UnreadableFile(
            "source",
            str(path),
            f"neither {format.archive.name} nor {format.folder} is there",
            f"get the binary version (not the Python one) from {format.archive.url}, or ask for the download",
        )
    files = _unpacked(place, wanted) if place.is_file() else _read(place, wanted)
    missing = sorted(wanted - set(files))
    if missing:
        raise UnreadableFile("source", place.name, f"{', '.join(missing)} is missing", "get the archive again")
    return files


def _holds(place: Path, format: Format) -> bool:  # noqa: A002
    return place.is_file() or (place / format.class_names).is_file()


def _read(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in wanted if (folder / name).is_file()}


def _unpacked(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    """The wanted members' bytes; nothing is written to disk."""
    files = {}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = PurePosixPath(member.name).name
                if not member.isfile() or name not in wanted:
                    continue
                if member.size > _MAX_FILE_BYTES:
                    raise TooLarge("source", name, f"{member.size:,} bytes", f"stay below {_MAX_FILE_BYTES:,}")
                content = members.extractfile(member)
                files[name] = content.read() if content else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise UnreadableFile("source", archive.name, f"not a readable archive: {error}", "get it again") from error
    return files


def _images(files: Mapping[str, bytes], names: tuple[str, ...], label_bytes: int) -> Images:
    """Records of label bytes, then a red, a green and a blue plane, each row by row."""
    record_bytes = label_bytes + _PIXEL_BYTES
    for name in names:
        if not files[name] or len(files[name]) % record_bytes:
            raise UnreadableFile(
                "source", name, f"{len(files[name])} bytes are no whole records of {record_bytes}", "get the file again"
            )
    records = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, record_bytes)
    pixels = records[:, label_bytes:].reshape(-1, _CHANNELS, _SIDE, _SIDE)
    labels = records[:, label_bytes - 1].astype(np.int64)
    return Images(torch.from_numpy(pixels.copy()), torch.from_numpy(labels))
