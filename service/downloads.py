"""Files that clients fetch: of stored models, their modules and compositions, each with its digest."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from moda_core.errors import Conflict, Corrupt, NotFound, StorageFailure
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.specs import sha256
from moda_core.storage import artifacts
from moda_core.storage.manifests import BlobRef, Composition, Manifest
from moda_core.storage.registry import Registry

__all__ = ["File", "composition_file", "file_response", "model_file", "module_file"]


@dataclass(frozen=True)
class File:
    """A file to fetch.

    Attributes:
        data: its bytes, when they were derived just now and the store could not take them.
    """

    blob: BlobRef
    data: bytes | None = None


def file_response(request: Request, registry: Registry, file: File, name: str) -> Response:
    """The file, or 304 for a client that has it; its digest is its `ETag`."""
    etag = f'"{file.blob.digest}"'
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.blob.digest)).decode()}:",
        "Cache-Control": "no-cache",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    file_name, media_type = _file_name(name), "application/octet-stream"
    if file.data is not None:
        headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
        return Response(file.data, media_type=media_type, headers=headers)
    return FileResponse(registry.blob_path(file.blob), filename=file_name, media_type=media_type, headers=headers)


def model_file(registry: Registry, digest: str, manifest: Manifest) -> File:
    """One file that holds the whole model, usable without the registry.

    A modular model's weights and counts are stored apart, so that versions share them; their joint
    file is derived when it is first asked for, then kept.
    """
    if "counts" not in manifest.blobs:
        return File(manifest.blobs["weights"])
    return _derived(
        registry,
        lambda: registry.model_file(digest),
        lambda: artifacts.encode(registry.model(digest)),
        lambda data: registry.put_model_file(digest, data),
    )


def module_file(registry: Registry, digest: str, manifest: Manifest, label: str) -> File:
    """The file of one class's module.

    Raises:
        NotFound: for a class that the model has not.
        Conflict: for a model without modules.
    """
    if manifest.threshold is None:
        raise Conflict(f"a {manifest.kind} model has no modules", "decompose it first")
    if label not in manifest.labels:
        raise NotFound("class", label, f"this model has {', '.join(manifest.labels[:20])}")
    stored = manifest.blobs.get(f"modules/{label}")
    return File(stored) if stored else composition_file(registry, Composition(digest, (label,), manifest.threshold))


def composition_file(registry: Registry, recipe: Composition) -> File:
    """The file of a composed model: derived when it is first asked for, then kept."""
    return _derived(
        registry,
        lambda: registry.composition_file(recipe.id),
        lambda: _composed(registry, recipe),
        lambda data: registry.put_composition_file(recipe.id, data),
    )


def _composed(registry: Registry, recipe: Composition) -> bytes:
    source = registry.model(recipe.model)
    assert isinstance(source, ModularModel)
    return artifacts.encode(compose(source, recipe.labels, recipe.threshold))


def _derived(
    registry: Registry,
    find: Callable[[], BlobRef | None],
    encode: Callable[[], bytes],
    keep: Callable[[bytes], BlobRef],
) -> File:
    """The kept file, else a new one, which is kept.

    One that is gone or damaged is derived again; a store that cannot take it does not keep it from the client.
    """
    with suppress(NotFound, Corrupt):
        kept = find()
        if kept is not None:
            registry.blob_path(kept)
            return File(kept)
    data = encode()
    try:
        return File(keep(data))
    except StorageFailure:
        return File(BlobRef(sha256(data), len(data)), data)


def _file_name(name: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.safetensors"
