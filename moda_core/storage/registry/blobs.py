"""Blobs: bytes under the SHA-256 of themselves, checked before anyone sees them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from moda_core.errors import Corrupt, NotFound
from moda_core.files import file_digest, storing
from moda_core.specs import sha256
from moda_core.storage.manifests import BlobRef
from moda_core.storage.registry.objects import Objects

__all__ = ["Blobs"]

_Stamp = tuple[int, int, int]


class Blobs:
    """The blobs of a store.

    Length and digest of a blob are checked once per process, and again when its file has changed.

    Args:
        objects: where they lie.
        cache: the folder for copies of a store elsewhere; one of our own, removed in the end, by default.
    """

    def __init__(self, objects: Objects, cache: Path | None) -> None:
        self._objects = objects
        self._cache = cache
        self._checked: dict[str, _Stamp] = {}

    def put(self, data: bytes) -> BlobRef:
        """Store bytes, unless they are there; durable when this returns.

        Raises:
            StorageFailure: when they cannot be written; nothing is left behind.
        """
        blob = BlobRef(sha256(data), len(data))
        if not self._present(blob):
            self._objects.put(_key(blob), data)
        return blob

    def path(self, blob: BlobRef) -> Path:
        """A local file that holds the blob, to map into memory: the store's own, or a checked copy.

        Raises:
            NotFound: without such a blob.
            Corrupt: when length or digest differ.
        """
        own = self._objects.path(_key(blob))
        if own is not None:
            return self._verified(blob, own)
        copy = self._cache_folder() / blob.digest
        with suppress(NotFound, Corrupt):
            return self._verified(blob, copy)
        self._fetch(blob, copy)
        return copy

    def _verified(self, blob: BlobRef, path: Path) -> Path:
        try:
            stamp = _stamp(path)
        except FileNotFoundError as error:
            raise NotFound("blob", blob.digest, "the store has lost it, or it was never published") from error
        if self._checked.get(blob.digest) != stamp:
            _check(blob, path)
            self._checked[blob.digest] = stamp
        return path

    def _present(self, blob: BlobRef) -> bool:
        """Whether the store holds the blob; a local file is also read, so that a broken one is replaced."""
        if self._objects.root is None:
            return self._objects.size_bytes(_key(blob)) == blob.size_bytes
        try:
            self.path(blob)
        except (NotFound, Corrupt):
            return False
        return True

    def _fetch(self, blob: BlobRef, path: Path) -> None:
        """Copy a distant blob to `path`, in place of any copy; it appears there whole or not at all."""
        part = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            self._objects.fetch(_key(blob), part)
            _check(blob, part)
            self._checked[blob.digest] = _stamp(part)
            with storing(path):
                part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _cache_folder(self) -> Path:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="moda-"))
            weakref.finalize(self, shutil.rmtree, self._cache, ignore_errors=True)
        with storing(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
        return self._cache


def _key(blob: BlobRef) -> str:
    return f"blobs/{blob.digest[:2]}/{blob.digest}"


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check(blob: BlobRef, path: Path) -> None:
    remedy = "restore it from a copy, or publish it again"
    size_bytes = path.stat().st_size
    if size_bytes != blob.size_bytes:
        raise Corrupt(f"blob {blob.digest} has {size_bytes} bytes, not {blob.size_bytes}", remedy)
    digest = file_digest(path)
    if digest != blob.digest:
        raise Corrupt(f"the bytes of blob {blob.digest} have the digest {digest}", remedy)
