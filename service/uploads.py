"""Files that clients send, on the disk for as long as they are looked at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from moda_core.files import storing

__all__ = ["received"]

_ABANDONED_S = 24 * 3600


@contextmanager
def received(file: BinaryIO, folder: Path, suffix: str) -> Iterator[Path]:
    """An upload as a file in `folder`, for as long as the context lasts.

    Raises:
        StorageFailure: when it cannot be written.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    with storing(folder), NamedTemporaryFile(dir=folder, prefix=".received-", suffix=suffix) as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed left behind."""
    for path in folder.glob(".received-*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
