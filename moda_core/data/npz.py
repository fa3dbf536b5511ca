"""Data sets in one ``.npz`` file: ``x_train y_train x_test y_test classes``, and nothing pickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import TooLarge, UnreadableFile
from moda_core.specs import check_labels

__all__ = ["MAX_BYTES", "check_npz", "load_npz"]

MAX_BYTES = 16 * 2**30
_KEYS = ("x_train", "y_train", "x_test", "y_test", "classes")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# What numpy raises on a header that is not the literal it should be.
_BAD_HEADER = (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)

Array = npt.NDArray[Any]


def load_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> Dataset:
    """Images uint8 [n, height, width] or [n, height, width, 1 or 3], integer labels, class names by label.

    A sixth array ``mirror``, one boolean, may say whether a mirrored image keeps its class (it does by default).

    Raises:
        UnreadableFile: for a file that is no such archive, a missing key, an object array, or a
            wrong shape or dtype.
        TooLarge: for arrays of more than `max_bytes` together, before any is read.
        InvalidInput: for images and labels that make no data set.
    """
    with _opened(path) as archive:
        arrays = {key: _array(path, archive, info, key) for key, info in _members(path, archive, max_bytes).items()}
    classes = _class_names(path, arrays["classes"])
    train, test = (
        Images(_pixels(path, f"x_{part}", arrays[f"x_{part}"]), _labels(path, f"y_{part}", arrays[f"y_{part}"]))
        for part in ("train", "test")
    )
    return Dataset(classes, train, test, mirror=_mirror(path, arrays))


def check_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Refuse what headers and class names show to be no data set, without reading an image; as `load_npz`."""
    with _opened(path) as archive:
        members = _members(path, archive, max_bytes)
        for key, info in members.items():
            with archive.open(info) as member:
                _header(path, member, key)
        check_labels("classes", _class_names(path, _array(path, archive, members["classes"], "classes")), at_least=2)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _unreadable(path, f"not a readable .npz file: {error}", "write it with numpy.savez") from error


def _members(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a data set, as the archive lists them."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    missing = [key for key in _KEYS if key not in members]
    if missing:
        raise _unreadable(path, f"it has no array {' or '.join(missing)}", f"store {', '.join(_KEYS)}")
    wanted = {key: members[key] for key in (*_KEYS, "mirror") if key in members}
    size_bytes = sum(info.file_size for info in wanted.values())
    if size_bytes > max_bytes:
        raise TooLarge("source", str(path), f"its arrays hold {size_bytes:,} bytes", f"stay below {max_bytes:,}")
    return wanted


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> Array:
    """One array, whose header must not promise more than its member holds."""
    with archive.open(info) as member:
        shape, fortran, dtype = _header(path, member, key)
        data = member.read()
    try:
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        raise _unreadable(
            path, f"{key} is not as long as its header says", "write it again with numpy.savez"
        ) from error


def _header(path: Path, member: Any, key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the array that a file begins with."""
    try:
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    except _BAD_HEADER as error:
        raise _unreadable(path, f"{key} is not a numpy array", "write it with numpy.savez") from error
    if dtype.hasobject:
        raise _unreadable(path, f"{key} is an array of Python objects", "store plain numbers and strings only")
    return shape, fortran, dtype


def _pixels(path: Path, key: str, array: Array) -> torch.Tensor:
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
        raise _unreadable(
            path,
            f"{key} is {array.dtype} {list(array.shape)}",
            "store images as uint8 [n, height, width] or [n, height, width, 1 or 3]",
        )
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)).copy())


def _labels(path: Path, key: str, array: Array) -> torch.Tensor:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise _unreadable(path, f"{key} is {array.dtype} {list(array.shape)}", "store labels as integers [n]")
    return torch.from_numpy(array.astype(np.int64))


def _class_names(path: Path, array: Array) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise _unreadable(
            path, f"classes is {array.dtype} {list(array.shape)}", "store class names as an array of strings"
        )
    try:
        return tuple(array.tolist())
    except ValueError as error:
        raise _unreadable(path, "classes holds what is no text", "store class names as an array of strings") from error


def _mirror(path: Path, arrays: dict[str, Array]) -> bool:
    array = arrays.get("mirror", np.array(True))
    if array.dtype != np.bool_ or array.size != 1:
        raise _unreadable(path, f"mirror is {array.dtype} {list(array.shape)}", "store one boolean")
    return bool(array.item())


def _unreadable(path: Path, problem: str, remedy: str) -> UnreadableFile:
    return UnreadableFile("source", path.name, problem, remedy)
