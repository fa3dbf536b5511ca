"""Import a data set once, under a name and a digest."""

from __future__ import annotations

from typing import Any

from moda_core.data.sources import load
from moda_core.errors import Cancelled
from moda_core.specs import check_name
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control

__all__ = ["import_dataset"]


def import_dataset(
    registry: Registry, name: str, source: str, *, image_size: int | None = None, seed: int = 0, control: Control
) -> dict[str, Any]:
    """Read a data set from its files and store it.

    Args:
        registry: where it goes.
        name: under which it appears; the same images under the same name stay the same version.
        source: as `moda_core.data.sources.load` takes it.
        image_size: for images of different sizes.
        seed: of the split, for a source that has no test part.
        control: may stop it between reading and storing.

    Raises:
        InvalidInput, UnreadableFile, TooLarge: for a source that is no data set.
        StorageFailure: if it cannot be stored.
    """
    check_name("name", name)
    control.progress({"event": "stage", "stage": "reading"})
    dataset = load(source, seed=seed, image_size=image_size)
    if control.cancelled():
        raise Cancelled("the import")
    control.progress({"event": "stage", "stage": "storing"})
    digest = registry.put_dataset(name, dataset)
    return {
        "dataset": name,
        "digest": digest,
        "classes": list(dataset.classes),
        "images": {"train": len(dataset.train), "test": len(dataset.test)},
    }
