"""Which blob holds a file that is derived from what is stored: one small record, written once.

compositions/<id>/file.json       the file of a composed model
files/<manifest digest>.json      the joint file of a model whose tensors are stored apart
"""

from __future__ import annotations

from dataclasses import asdict

from moda_core.errors import NotFound
from moda_core.storage.manifests import BlobRef
from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.records import put_once, read_record

__all__ = ["derived_file", "put_derived_file"]


def put_derived_file(objects: Objects, key: str, blob: BlobRef) -> BlobRef:
    """Name a derived file; returns the one that holds, which is the first named."""
    return BlobRef(**put_once(objects, key, asdict(blob)))


def derived_file(objects: Objects, key: str) -> BlobRef | None:
    """The derived file, if there is one yet."""
    try:
        return BlobRef(**read_record(objects, key, {"digest", "size_bytes"}))
    except NotFound:
        return None
