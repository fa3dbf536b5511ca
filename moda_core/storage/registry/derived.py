"""Which blob holds a file that is derived from what is stored: one small record, written once.

compositions/<id>/file.json             the safetensors file of a composed model
compositions/<id>/file-<format>.json    the same model in another format
files/<manifest digest>.json            the joint safetensors file of a model whose tensors are stored apart
files/<manifest digest>-<format>.json   any model in another format
"""

from __future__ import annotations

from dataclasses import asdict

from moda_core.errors import NotFound
from moda_core.storage.formats import FileFormat
from moda_core.storage.manifests import BlobRef
from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.records import put_once, read_record

__all__ = ["derived_file", "derived_key", "put_derived_file"]


def derived_key(stem: str, file_format: FileFormat) -> str:
    """The key of a derived file's record."""
    return f"{stem}.json" if file_format == "safetensors" else f"{stem}-{file_format}.json"


def put_derived_file(objects: Objects, key: str, blob: BlobRef) -> BlobRef:
    """Name a derived file; returns the one that holds, which is the first named."""
    return BlobRef(**put_once(objects, key, asdict(blob)))


def derived_file(objects: Objects, key: str) -> BlobRef | None:
    """The derived file, if there is one yet."""
    try:
        return BlobRef(**read_record(objects, key, {"digest", "size_bytes"}))
    except NotFound:
        return None
