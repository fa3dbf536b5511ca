"""Import a data set once: read its files, store it under its digest, let it appear under a name."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

from moda_core.data.sources import load
from moda_core.errors import Cancelled
from moda_core.storage.references import check_stored_name
from moda_core.storage.registry import Registry
from moda_core.storage.workflows.control import Control

__all__ = ["UPLOAD", "import_dataset", "store_dataset"]

UPLOAD: Final = "upload"


def import_dataset(
    registry: Registry,
    name: str,
    source: str,
    *,
    image_size: int | None = None,
    seed: int = 0,
    download: bool = False,
    control: Control,
) -> dict[str, Any]:
    """Read a data set from its files, store it and publish it.

    Args:
        registry: where it goes.
        name: under which it appears; the same images under the same name stay the same version.
        source: as `moda_core.data.sources.load` takes it.
        image_size: for images of different sizes.
        seed: of the split, for a source that has no test part.
        download: fetch official files that are not there.
        control: may stop it between reading and storing.

    Raises:
        InvalidInput, UnreadableFile, TooLarge: for a source that is no data set.
        Unavailable: if a download fails.
        StorageFailure: if it cannot be stored.
    """
    check_stored_name("name", name)
    stored = store_dataset(registry, source, image_size=image_size, seed=seed, download=download, control=control)
    registry.put_dataset_version(name, stored["digest"])
    return {"dataset": name, **stored}


def store_dataset(
    registry: Registry,
    source: str,
    *,
    image_size: int | None = None,
    seed: int = 0,
    download: bool = False,
    control: Control,
) -> dict[str, Any]:
    """Read a data set and store it without a name: its digest, classes and numbers of images.

    Everything as for `import_dataset`, but that ``upload:<digest>`` names a file that the registry keeps.
    """
    control.progress({"event": "stage", "stage": "reading"})
    scheme, _, upload = source.partition(":")
    with registry.upload(upload) if scheme == UPLOAD else nullcontext(source) as place:
        dataset = load(str(place), download=download, seed=seed, image_size=image_size)
    if control.cancelled():
        raise Cancelled("the import")
    control.progress({"event": "stage", "stage": "storing"})
    return {
        "digest": registry.store_dataset(dataset),
        "classes": list(dataset.classes),
        "images": {"train": len(dataset.train), "test": len(dataset.test)},
    }
