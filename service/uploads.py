"""Files that clients send: moved to a place of their own, named by what they hold."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from moda_core.files import file_digest, storing

__all__ = ["keep", "received"]

_KEPT_S = 7 * 24 * 3600


@contextmanager
def received(file: BinaryIO, folder: Path, suffix: str) -> Iterator[Path]:
    """An upload as a file in `folder`, for as long as the context lasts.

    Raises:
        StorageFailure: when it cannot be written.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with storing(folder), NamedTemporaryFile(dir=folder, prefix=".received-", suffix=suffix) as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
        yield Path(copy.name)


def keep(file: BinaryIO, folder: Path, suffix: str) -> tuple[Path, str]:
    """Keep an upload under its SHA-256 for a week; the path and the digest. The same bytes are kept once.

    Raises:
        StorageFailure: when it cannot be written; nothing is left behind.
    """
    with received(file, folder, suffix) as copy, storing(folder):
        digest = file_digest(copy)
        path = folder / f"{digest}{suffix}"
        copy.chmod(0o644)
        if not path.exists():
            os.link(copy, path)
        path.touch()
        _sweep(folder)
    return path, digest


def _sweep(folder: Path) -> None:
    """Remove what was uploaded long ago: it was imported since, or never will be."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()
