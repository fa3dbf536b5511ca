"""Fetching official files, by digest, only when the user says so."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from moda_core.errors import Corrupt, StorageFailure, Unavailable

__all__ = ["Download", "fetch"]

_TIMEOUT_S = 60.0
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Download:
    """A file that is published under an address, and the SHA-256 that it must have."""

    name: str
    url: str
    sha256: str


def fetch(downloads: Iterable[Download], folder: Path) -> None:
    """Bring the files that `folder` lacks; a file appears there whole, with the right digest, or not at all.

    Raises:
        Unavailable: if an address cannot be reached.
        Corrupt: if what it sends has another digest.
        StorageFailure: if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    for download in downloads:
        if not (folder / download.name).exists():
            _fetch_one(download, folder / download.name)


def _fetch_one(download: Download, target: Path) -> None:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(target.parent, error) from error
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _received(download, file)
        if found != download.sha256:
            raise Corrupt(f"{download.url} sent a file with digest {found}, not {download.sha256}", "try again later")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _received(download: Download, file: IO[bytes]) -> str:
    """Write what the address sends to `file`; its SHA-256."""
    digest = hashlib.sha256()
    try:
        with urlopen(download.url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - addresses are constants of ours
            while block := response.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
    except OSError as error:
        raise Unavailable(
            f"{download.url} could not be fetched: {error}", "try again, or put the file there yourself"
        ) from error
    return digest.hexdigest()


def _unwritable(folder: Path, error: OSError) -> StorageFailure:
    return StorageFailure(f"{folder} cannot be written: {error}", "choose another folder")
