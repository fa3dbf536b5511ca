"""Files that clients fetch: of stored models, their modules and compositions, each with its digest."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from moda_core.errors import Conflict, Corrupt, NotFound, StorageFailure
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.specs import sha256
from moda_core.storage import artifacts
from moda_core.storage.formats import FileFormat
from moda_core.storage.manifests import BlobRef, Composition, Manifest
from moda_core.storage.registry import Registry
from service.ranges import chunks, requested_range

__all__ = ["File", "Source", "composition_source", "file_response", "model_source", "module_source"]


@dataclass(frozen=True)
class File:
    """A file to fetch.

    Attributes:
        data: its bytes, when they were derived just now and the store could not take them.
    """

    blob: BlobRef
    data: bytes | None = None


@dataclass(frozen=True)
class Source:
    """A model whose file can be had in several formats, each derived when it is first asked for, then kept.

    Attributes:
        key: tells models apart.
        find: the kept file of a format.
        keep: keeps one; where one is kept already, that one holds, for every service on this store.
        encode: makes the safetensors file.
        stored: the safetensors file, where the model is stored as one.
    """

    registry: Registry
    key: str
    find: Callable[[FileFormat], BlobRef | None]
    keep: Callable[[bytes, FileFormat], BlobRef]
    encode: Callable[[], bytes]
    stored: BlobRef | None = None

    def safetensors(self) -> File:
        """The model's own file: whole, and usable without the registry."""
        return File(self.stored) if self.stored else self.derived("safetensors", self.encode)

    def kept(self, file_format: FileFormat) -> File | None:
        """The kept file of a format, unless there is none, or it is gone or damaged."""
        with suppress(NotFound, Corrupt):
            blob = self.find(file_format)
            if blob is not None:
                self.registry.blob_path(blob)
                return File(blob)
        return None

    def derived(self, file_format: FileFormat, encode: Callable[[], bytes]) -> File:
        """The kept file of a format, else a new one, which a store that cannot take it does not keep from the client."""
        kept = self.kept(file_format)
        if kept is not None:
            return kept
        data = encode()
        made = BlobRef(sha256(data), len(data))
        try:
            held = self.keep(data, file_format)
        except StorageFailure:
            return File(made, data)
        # Where another file was kept before and is lost, the new one stands in for it.
        return File(made) if held == made else self.kept(file_format) or File(made)


def model_source(registry: Registry, digest: str, manifest: Manifest) -> Source:
    """A whole model. A modular one's weights and counts are stored apart, so that versions share them."""
    return Source(
        registry,
        key=digest,
        find=partial(registry.model_file, digest),
        keep=partial(registry.put_model_file, digest),
        encode=lambda: artifacts.encode(registry.model(digest)),
        stored=None if "counts" in manifest.blobs else manifest.blobs["weights"],
    )


def module_source(registry: Registry, digest: str, manifest: Manifest, label: str) -> Source:
    """One class's module: the composition of that class.

    Raises:
        NotFound: for a class that the model has not.
        Conflict: for a model without modules.
    """
    if manifest.threshold is None:
        raise Conflict(f"a {manifest.kind} model has no modules", "decompose it first")
    if label not in manifest.labels:
        raise NotFound("class", label, f"this model has {', '.join(manifest.labels[:20])}")
    recipe = Composition(digest, (label,), manifest.threshold)
    return composition_source(registry, recipe, manifest.blobs.get(f"modules/{label}"))


def composition_source(registry: Registry, recipe: Composition, stored: BlobRef | None = None) -> Source:
    """A composed model, which may be stored as a file already."""
    return Source(
        registry,
        key=recipe.id,
        find=partial(registry.composition_file, recipe.id),
        keep=partial(_keep, registry, recipe),
        encode=lambda: _composed(registry, recipe),
        stored=stored,
    )


def _keep(registry: Registry, recipe: Composition, data: bytes, file_format: FileFormat) -> BlobRef:
    """Keep a composition's file beside its recipe, which comes first: a module may never have been composed before."""
    registry.put_composition(recipe)
    return registry.put_composition_file(recipe.id, data, file_format)


def _composed(registry: Registry, recipe: Composition) -> bytes:
    source = registry.model(recipe.model)
    assert isinstance(source, ModularModel)
    return artifacts.encode(compose(source, recipe.labels, recipe.threshold))


def file_response(request: Request, registry: Registry, file: File, name: str) -> Response:
    """The file or a range of it, or 304 for a client that has it; its digest is its `ETag`. It is saved as `name`."""
    etag, size_bytes = f'"{file.blob.digest}"', file.blob.size_bytes
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.blob.digest)).decode()}:",
        "Cache-Control": "no-cache",
        "Accept-Ranges": "bytes",
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    part = requested_range(request, etag, size_bytes)
    sent = range(size_bytes) if part is None else part
    headers["Content-Disposition"] = f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}"'
    headers["Content-Length"] = str(len(sent))
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size_bytes}"
    content = chunks(registry.blob_path(file.blob) if file.data is None else file.data, sent)
    status = 200 if part is None else 206
    return StreamingResponse(content, status, headers, media_type="application/octet-stream")
