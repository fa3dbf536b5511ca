"""Files that wait on the store for their import: ``uploads/<SHA-256>``, kept for a week.

They lie beside the blobs and not among them, because nothing refers to them once they are imported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moda_core.errors import Corrupt, NotFound, StorageFailure
from moda_core.files import file_digest
from moda_core.storage.references import check_digest
from moda_core.storage.registry.objects import Objects

__all__ = ["Uploads"]

_KEPT_S = 7 * 24 * 3600.0


class Uploads:
    """The uploads of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, path: Path) -> str:
        """Store a file for a week from now, and drop what was stored before that; returns its digest.

        Raises:
            StorageFailure: when it cannot be written; nothing is left behind.
        """
        digest = file_digest(path)
        with suppress(StorageFailure):  # what cannot be dropped today goes with the next upload
            for key in self._objects.older("uploads", _KEPT_S):
                self._objects.delete(key)
        self._objects.put_file(_key(digest), path)
        return digest

    @contextmanager
    def file(self, digest: str) -> Iterator[Path]:
        """A local file with these bytes, for as long as the context lasts; never to be written to.

        Raises:
            NotFound: without such an upload.
            Corrupt: when its bytes have another digest.
        """
        check_digest("source", digest)
        with tempfile.TemporaryDirectory(prefix="moda-") as folder:
            path = self._objects.path(_key(digest))
            if path is None:
                path = Path(folder) / digest
                self._fetch(digest, path)
            if not path.is_file():
                raise _gone(digest)
            if file_digest(path) != digest:
                raise Corrupt(f"the bytes of upload {digest} differ from it", "send the file again")
            yield path

    def _fetch(self, digest: str, path: Path) -> None:
        try:
            self._objects.fetch(_key(digest), path)
        except NotFound as error:
            raise _gone(digest) from error


def _key(digest: str) -> str:
    return f"uploads/{digest}"


def _gone(digest: str) -> NotFound:
    return NotFound("upload", digest, "uploads are kept for a week; send the file again")
