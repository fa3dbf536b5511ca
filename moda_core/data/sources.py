"""One door for all data sets: a source in one string."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moda_core.data.cifar import CIFAR10, CIFAR100, load_cifar
from moda_core.data.dataset import Dataset
from moda_core.data.digits import load_digits
from moda_core.data.downloads import Download, fetch
from moda_core.data.folders import check_folder, check_zip, load_folder, load_zip
from moda_core.data.mnist import FASHION_MNIST, MNIST, load_mnist
from moda_core.data.npz import check_npz, load_npz
from moda_core.data.svhn import DOWNLOADS as SVHN_DOWNLOADS
from moda_core.data.svhn import load_svhn
from moda_core.errors import InvalidInput, UnreadableFile, UnsupportedType

__all__ = ["EMBEDDED", "check", "load", "schemes"]

EMBEDDED = "digits"
_Form = Literal["folder", "arrays", "zip"]


@dataclass(frozen=True)
class _Official:
    """A well-known set of files: how a folder of them is read, and how they are had."""

    read: Callable[[Path], Dataset]
    downloads: tuple[Download, ...]


_OFFICIAL = {
    "cifar10": _Official(lambda path: load_cifar(path, CIFAR10), (CIFAR10.archive,)),
    "cifar100": _Official(lambda path: load_cifar(path, CIFAR100), (CIFAR100.archive,)),
    "svhn": _Official(load_svhn, SVHN_DOWNLOADS),
    "mnist": _Official(lambda path: load_mnist(path, MNIST), MNIST.downloads),
    "fashion-mnist": _Official(lambda path: load_mnist(path, FASHION_MNIST), FASHION_MNIST.downloads),
}


def schemes() -> tuple[str, ...]:
    """The words before the colon in ``cifar10:PATH``."""
    return tuple(_OFFICIAL)


def load(source: str, *, download: bool = False, seed: int = 0, image_size: int | None = None) -> Dataset:
    """The data set that `source` names.

    ``digits`` | an ``.npz`` file | a folder or zip of class folders | ``cifar10:PATH`` |
    ``cifar100:PATH`` | ``svhn:PATH`` | ``mnist:PATH`` | ``fashion-mnist:PATH``. Files are told by what
    they hold, not by their names.

    Args:
        source: as above.
        download: fetch official files that PATH, a folder, lacks; otherwise nothing is fetched.
        seed: of the test part, where the source has none.
        image_size: pixels per side to which images of a folder or zip are resized; None keeps
            a common size, and takes 32 for mixed ones.

    Raises:
        InvalidInput: for a source that is none of these (UnsupportedType), or whose files are
            missing or broken (UnreadableFile), too large (TooLarge), or make no data set.
        Unavailable, StorageFailure: if a download fails.
    """
    if image_size is not None and not 8 <= image_size <= 1024:
        raise InvalidInput("image_size", image_size, "out of range", "give a whole number from 8 to 1024")
    try:
        return _loaded(source, download, seed, image_size)
    except OSError as error:
        raise UnreadableFile("source", source, f"it cannot be read: {error}", "check its permissions") from error


def _loaded(source: str, download: bool, seed: int, image_size: int | None) -> Dataset:
    scheme, colon, place = source.partition(":")
    if colon and scheme in _OFFICIAL:
        return _official(scheme, place, download)
    if source == EMBEDDED:
        return load_digits(seed)
    path = Path(source)
    match _form(source):
        case "folder":
            return load_folder(path, seed=seed, image_size=image_size)
        case "arrays":
            return load_npz(path)
        case "zip":
            return load_zip(path, seed=seed, image_size=image_size)


def check(path: Path) -> None:
    """Refuse, in a moment, what the names and headers in a file or folder show to be no data set.

    What passes may still hold a broken image, a wrong shape or a label without a class.

    Raises:
        InvalidInput: as `load`.
    """
    checks: dict[_Form, Callable[[Path], None]] = {"folder": check_folder, "arrays": check_npz, "zip": check_zip}
    try:
        checks[_form(str(path))](path)
    except OSError as error:
        raise UnreadableFile("source", path.name, f"it cannot be read: {error}", "check its permissions") from error


def _form(source: str) -> _Form:
    """Of which form a file or folder is, told by what it holds."""
    path = Path(source)
    if source and path.is_dir():
        return "folder"
    if not path.is_file():
        raise _unknown(source)
    if not path.stat().st_size:
        raise UnreadableFile("source", path.name, "the file is empty", "give a whole file")
    if not zipfile.is_zipfile(path):
        raise UnsupportedType("source", path.name, "neither an .npz file nor a zip archive", "give one of these")
    return "arrays" if _holds_arrays(path) else "zip"


def _official(scheme: str, place: str, download: bool) -> Dataset:
    if not place:
        raise InvalidInput("source", f"{scheme}:", "no path after the colon", f"write {scheme}:PATH")
    path = Path(os.path.expanduser(place))  # noqa: PTH111 - Path's own raises for an unknown user
    official = _OFFICIAL[scheme]
    try:
        return official.read(path)
    except UnreadableFile:
        if not download or path.is_file():
            raise
    fetch(official.downloads, path)
    return official.read(path)


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError):
        return False  # whoever reads it will say what is wrong


def _unknown(source: str) -> InvalidInput:
    known = ", ".join(f"{scheme}:PATH" for scheme in _OFFICIAL)
    return UnreadableFile(
        "source", source, "there is no such file or folder", f"give a path to one, or {EMBEDDED}, {known}"
    )
