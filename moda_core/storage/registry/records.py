"""Small JSON records on the store, each written once by whoever comes first."""

from __future__ import annotations

from moda_core.errors import Corrupt
from moda_core.files import parse_json
from moda_core.specs import canonical_json
from moda_core.storage.manifests import JSON
from moda_core.storage.registry.objects import Objects

__all__ = ["create_record", "put_once", "read_record"]


def create_record(objects: Objects, key: str, record: JSON) -> bool:
    """Write a record under a free key; False, and nothing done, where it is taken."""
    return objects.create(key, canonical_json(record).encode())


def put_once(objects: Objects, key: str, record: JSON) -> JSON:
    """Write a record unless there is one; returns the one that holds."""
    return record if create_record(objects, key, record) else read_record(objects, key, set(record))


def read_record(objects: Objects, key: str, fields: set[str]) -> JSON:
    """A record with exactly these fields.

    Raises:
        NotFound: without it.
        Corrupt: for other bytes.
    """
    remedy = "restore it from a copy"
    data = objects.get(key)
    try:
        record = parse_json(data)
    except ValueError as error:
        raise Corrupt(f"record {key} is not JSON", remedy) from error
    if not isinstance(record, dict) or set(record) != fields:
        raise Corrupt(f"record {key} is not what is stored there", remedy)
    return record
