"""MNIST and Fashion-MNIST from their four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.data.downloads import Download
from moda_core.errors import TooLarge, UnreadableFile

__all__ = ["FASHION_MNIST", "MNIST", "Collection", "load_mnist"]

_TRAIN, _TEST = "train", "t10k"
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_UNSIGNED_BYTES = b"\0\0\x08"
_MAX_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Collection:
    """Where four files come from, and what their labels mean."""

    classes: tuple[str, ...]
    mirror: bool
    address: str
    downloads: tuple[Download, ...]


def _collection(classes: tuple[str, ...], *, mirror: bool, address: str, digests: tuple[str, ...]) -> Collection:
    names = [f"{part}-{content}.gz" for part in (_TRAIN, _TEST) for content in (_IMAGES, _LABELS)]
    downloads = tuple(Download(name, address + name, digest) for name, digest in zip(names, digests, strict=True))
    return Collection(classes, mirror, address, downloads)


MNIST = _collection(
    tuple(str(digit) for digit in range(10)),
    mirror=False,
    address="https://ossci-datasets.s3.amazonaws.com/mnist/",
    digests=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_MNIST = _collection(
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirror=True,
    address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    digests=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)


def load_mnist(path: Path, collection: Collection) -> Dataset:
    """The data set from the folder that holds its four files.

    Raises:
        UnreadableFile: for a missing or broken file, or one that does not hold bytes of the right rank.
        TooLarge: for a file that declares more than 4 GiB, before it is unpacked.
        InvalidInput: for labels that make no data set.
    """
    train, test = (_images(path, part, collection) for part in (_TRAIN, _TEST))
    return Dataset(collection.classes, train, test, mirror=collection.mirror)


def _images(folder: Path, part: str, collection: Collection) -> Images:
    pixels = _idx(_found(folder, f"{part}-{_IMAGES}", collection), rank=3)
    labels = _idx(_found(folder, f"{part}-{_LABELS}", collection), rank=1)
    return Images(torch.from_numpy(pixels[:, None].copy()), torch.from_numpy(labels.astype(np.int64)))


def _found(folder: Path, name: str, collection: Collection) -> Path:
    names = (f"{name}.gz", name, name.replace("-idx", ".idx"))
    for path in (folder / name for name in names):
        if path.is_file():
            return path
    raise UnreadableFile(
        "source",
        str(folder),
        f"it has no file {name}.gz",
        f"get it from {collection.address}, or ask for the download",
    )


def _idx(path: Path, *, rank: int) -> npt.NDArray[np.uint8]:
    """An IDX file: two zero bytes, the type, the rank, each length as a big-endian 32-bit number, the bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * rank)
            if head[:4] != _UNSIGNED_BYTES + bytes([rank]) or len(head) != 4 + 4 * rank:
                raise _unreadable(path, f"not an IDX file of {rank}-dimensional bytes")
            shape = np.frombuffer(head, ">u4", offset=4).tolist()
            length = math.prod(shape)
            if length > _MAX_BYTES:
                raise TooLarge("source", path.name, f"it declares {length:,} bytes", f"stay below {_MAX_BYTES:,}")
            data = file.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, f"it cannot be unpacked: {error}") from error
    if len(data) != length:
        raise _unreadable(path, f"not the {length:,} bytes that it declares")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _unreadable(path: Path, problem: str) -> UnreadableFile:
    return UnreadableFile("source", path.name, problem, "get the file again")
