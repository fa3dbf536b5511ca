"""Files that clients fetch: of stored models, their modules and compositions, each with its digest."""

from __future__ import annotations

import base64
import re

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from moda_core.errors import Conflict, NotFound
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.storage import artifacts
from moda_core.storage.manifests import BlobRef, Composition, Manifest
from moda_core.storage.registry import Registry

__all__ = ["composition_file", "file_response", "model_file", "module_file"]


def file_response(request: Request, registry: Registry, blob: BlobRef, name: str) -> Response:
    """The file, or 304 for a client that has it; its digest is its `ETag`."""
    etag = f'"{blob.digest}"'
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(blob.digest)).decode()}:",
        "Cache-Control": "no-cache",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        registry.blob_path(blob), filename=_file_name(name), media_type="application/octet-stream", headers=headers
    )


def model_file(registry: Registry, digest: str, manifest: Manifest) -> BlobRef:
    """One file that holds the whole model, usable without the registry.

    A modular model's weights and counts are stored apart, so that versions share them; their joint
    file is derived, the same bytes each time.
    """
    if "counts" not in manifest.blobs:
        return manifest.blobs["weights"]
    return registry.put_blob(artifacts.encode(registry.model(digest)))


def module_file(registry: Registry, digest: str, manifest: Manifest, label: str) -> BlobRef:
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
    return stored or composition_file(registry, Composition(digest, (label,), manifest.threshold))


def composition_file(registry: Registry, recipe: Composition) -> BlobRef:
    """The file of a composed model: derived when it is first asked for, then kept."""
    kept = registry.composition_file(recipe.id)
    if kept is not None:
        return kept
    source = registry.model(recipe.model)
    assert isinstance(source, ModularModel)
    composed = compose(source, recipe.labels, recipe.threshold)
    return registry.put_composition_file(recipe.id, artifacts.encode(composed))


def _file_name(name: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.safetensors"
