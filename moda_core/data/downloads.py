"""Fetching official files, by digest, only when the user says so."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from moda_core.errors import Corrupt, Unavailable
from moda_core.files import storing

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
        StorageFailure: if the folder cannot be written, or its disk is full.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for download in downloads:
        if not (folder / download.name).exists():
            with storing(folder / download.name):
                _fetch_one(download, folder / download.name)


def _fetch_one(download: Download, target: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for block in _blocks(download):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != download.sha256:
            problem = f"{download.url} sent a file with digest {digest.hexdigest()}, not {download.sha256}"
            raise Corrupt(problem, "try again later")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _blocks(download: Download) -> Iterator[bytes]:
    """What the address sends. Only its own failures are turned into ours here, not those of whoever asks."""
    try:
        with urlopen(download.url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - addresses are constants of ours
            while block := response.read(_BLOCK_BYTES):
                yield block
    except (OSError, HTTPException) as error:
        problem = f"{download.url} could not be fetched: {error}"
        raise Unavailable(problem, "try again, or put the file there yourself") from error
