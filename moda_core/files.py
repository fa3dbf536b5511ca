"""Bytes and JSON, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from moda_core.errors import StorageFailure

__all__ = ["copy_atomically", "create_atomically", "file_digest", "locked", "parse_json", "storing", "write_atomically"]


@contextmanager
def storing(what: object) -> Iterator[None]:
    """Turn an operating-system error into a `StorageFailure` that names `what` and the reason."""
    try:
        yield
    except OSError as error:
        problem = f"{what} could not be stored or read: {error.strerror or error}"
        raise StorageFailure(problem, "check the disk's free space and the folder's permissions") from error


def write_atomically(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Write a file, replacing any; after a crash at any moment the old or the new one is there, whole.

    The unfinished file lies in `scratch`, on the same file system; beside `path` by default.

    Raises:
        StorageFailure: when it cannot be written; nothing is left behind.
    """
    with storing(path), _staged(path, data, scratch) as staged:
        staged.replace(path)
        _sync_folder(path.parent)


def copy_atomically(source: Path, path: Path, *, scratch: Path | None = None) -> None:
    """Copy a file of any size, replacing any; otherwise as `write_atomically`."""
    with storing(path), source.open("rb") as original, _staged(path, original, scratch) as staged:
        staged.replace(path)
        _sync_folder(path.parent)


def create_atomically(path: Path, data: bytes, *, scratch: Path | None = None) -> bool:
    """Write a file unless one is there; of several processes exactly one gets True.

    Raises:
        StorageFailure: when it cannot be written; nothing is left behind.
    """
    with storing(path), _staged(path, data, scratch) as staged:
        try:
            os.link(staged, path)
            created = True
        except FileExistsError:
            created = False
        # Also for the loser: it goes on as if the file were there for good.
        _sync_folder(path.parent)
        return created


@contextmanager
def _staged(path: Path, data: bytes | IO[bytes], scratch: Path | None) -> Iterator[Path]:
    """The data under a name of its own, on the disk, gone afterwards."""
    folder = scratch or path.parent
    for needed in (path.parent, folder):
        _make_folder(needed)
    staged = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        with staged.open("xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file)
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(path: Path) -> BinaryIO:
    """A file, made if absent, that no other process has locked; once they have closed it. To be closed."""
    import fcntl  # there is none on Windows

    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with storing(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """JSON in the strict sense: no key twice, no NaN or infinity.

    Raises:
        ValueError: for anything else.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
