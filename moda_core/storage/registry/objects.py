"""The store as a flat map from keys to bytes: a local folder by default, S3, GCS or Azure by URL.

Only what every store can do is asked of it: get, put, put-if-absent, list, delete. A local folder is
written here and not by obstore, which does not fsync.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from moda_core.errors import InvalidInput, NotFound, StorageFailure
from moda_core.files import copy_atomically, create_atomically, storing, write_atomically

__all__ = ["Objects"]

_URL = re.compile(r"[a-z0-9+]+://")
_SCRATCH = ".unfinished"
_ABANDONED_S = 24 * 3600
_CLOCK_STEP_NS = 50_000_000


class Objects:
    """Bytes by key, such as ``models/digits/versions/000003.json``.

    Args:
        location: a folder, made if absent, or a URL: ``s3://bucket/prefix``, ``gs://...``, ``az://...``,
            ``memory://`` (for tests: it lives as long as this value).

    Raises:
        InvalidInput: for a URL that names no store.
        StorageFailure: when the folder cannot be made.
    """

    def __init__(self, location: str | Path) -> None:
        text = str(location)
        self.root: Path | None = None
        if text.startswith("memory:"):
            self._store: ObjectStore = MemoryStore()
        elif _URL.match(text) and not text.startswith("file://"):
            self._store = _remote(text)
        else:
            self.root = Path(text.removeprefix("file://")).resolve()
            with storing(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self.root)
            self._sweep(self.root / _SCRATCH)

    @staticmethod
    def _sweep(scratch: Path) -> None:
        """Remove what processes that were killed left unfinished."""
        for path in scratch.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def get(self, key: str) -> bytes:
        """The bytes under a key.

        Raises:
            NotFound: without such a key.
        """
        with _failures(key):
            return bytes(obstore.get(self._store, key).bytes())

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object into a local file, in pieces; the caller checks what came.

        Raises:
            NotFound: without such a key.
        """
        with _failures(key):
            chunks = iter(obstore.get(self._store, key))
            with storing(path), path.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, in place of any."""
        if self.root:
            write_atomically(self.root / key, data, scratch=self.root / _SCRATCH)
            return
        with _failures(key):
            obstore.put(self._store, key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Store a file's bytes under a key, in place of any, in pieces."""
        if self.root:
            copy_atomically(path, self.root / key, scratch=self.root / _SCRATCH)
            return
        with _failures(key):
            obstore.put(self._store, key, path)

    def create(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is free; False, and nothing done, where it is taken."""
        if self.root:
            return create_atomically(self.root / key, data, scratch=self.root / _SCRATCH)
        try:
            with _failures(key):
                obstore.put(self._store, key, data, mode="create")
        except StorageFailure as error:
            if isinstance(error.__cause__, AlreadyExistsError):
                return False
            raise
        return True

    def delete(self, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        with contextlib.suppress(NotFound), _failures(key):
            obstore.delete(self._store, key)

    def keys(self, folder: str) -> list[str]:
        """All keys below a folder, sorted."""
        with _failures(folder):
            return sorted(entry["path"] for entry in obstore.list(self._store, folder).collect())

    def older(self, folder: str, age_s: float) -> list[str]:
        """The keys below a folder that were last written more than `age_s` seconds ago, sorted."""
        oldest = datetime.now(UTC) - timedelta(seconds=age_s)
        with _failures(folder):
            entries = obstore.list(self._store, folder).collect()
        return sorted(entry["path"] for entry in entries if entry["last_modified"] < oldest)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly below a folder, sorted."""
        with _failures(folder):
            prefixes = obstore.list_with_delimiter(self._store, folder)["common_prefixes"]
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes)

    def stamp(self, *folders: str) -> object:
        """A value that stays equal while no object directly in these folders comes or goes.

        A local folder's time of change tells, once it is older than the steps of the file system's clock. Of
        a store elsewhere nothing is asked: the value changes every second.
        """
        if self.root is None:
            return int(time.monotonic())
        changed = tuple(_changed_at_ns(f"{self.root}/{folder}") for folder in folders)
        return changed if time.time_ns() - max(changed) > _CLOCK_STEP_NS else object()

    def size_bytes(self, key: str) -> int | None:
        """The length of an object, or None without it."""
        try:
            with _failures(key):
                return int(obstore.head(self._store, key)["size"])
        except NotFound:
            return None

    def path(self, key: str) -> Path | None:
        """Where a local folder keeps an object; None for a store elsewhere."""
        return self.root / key if self.root else None

    def check(self) -> None:
        """Write and read back one small object, which stays: others may be checking at the same time.

        Raises:
            StorageFailure: when any of it fails.
        """
        key = "ready.json"
        self.put(key, b"{}")
        try:
            self.get(key)
        except NotFound as error:
            raise StorageFailure("the store does not return what it was given", "check the store") from error


def _changed_at_ns(folder: str) -> int:
    """0 for a folder that is not there. Paths would take longer to join than the system to answer."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116
    except FileNotFoundError:
        return 0


def _remote(url: str) -> ObjectStore:
    try:
        return from_url(url)
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput("registry", url, reason, "give a folder, or an s3://, gs:// or az:// URL") from error


@contextlib.contextmanager
def _failures(key: str) -> Iterator[None]:
    """Map obstore's errors to ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("object", key, "check the store") from error
    except ValueError as error:
        raise InvalidInput("key", key, "not a place in the store", "use plain names, without '..' or '/'") from error
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise StorageFailure(f"the store failed at {key}: {reason}", "check the store, then try again") from error
