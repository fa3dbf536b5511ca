"""Stored models: list, look, upload, delete, and fetch whole or by module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from moda_core.errors import Conflict, NotFound
from moda_core.storage.manifests import Manifest, canonical_threshold
from moda_core.storage.references import check_stored_name
from moda_core.storage.registry import Registry, Resolved, Version
from service import downloads
from service.admission import admit
from service.api.dependencies import Parts, WantedFormat
from service.schemas import Model, ModelList, ModelSummary, Module, ModuleList
from service.uploads import received

__all__ = ["router"]

router = APIRouter(tags=["models"])

_OneClass = Annotated[str | None, Query(alias="class", max_length=500, description="Only this class's module.")]


@router.get("/models")
def models(parts: Parts) -> ModelList:
    """Every name with its live versions, newest first."""
    listed = [summary for name in parts.registry.model_names() for summary in _summaries(parts.registry, name)]
    return ModelList(models=listed)


@router.post("/models", status_code=201)
def upload(
    file: Annotated[UploadFile, File(description="A safetensors file that MODA wrote.")],
    name: Annotated[str, Form(max_length=64, description="Under which it appears, as the next version.")],
    parts: Parts,
    response: Response,
) -> Model:
    """Store a model file: one that was downloaded here or elsewhere."""
    check_stored_name("name", name)
    with received(file.file, parts.settings.uploads, ".safetensors") as path:
        digest = admit(parts.registry, path)
    version = parts.registry.publish_version(name, digest)
    response.headers["Location"] = f"/models/{name}@{version}"
    return _model(parts.registry, parts.registry.resolve(f"{name}@{version}"))


@router.get("/models/{ref}")
def model(ref: str, parts: Parts) -> Model:
    """A model with everything that its manifest says, and how it runs here."""
    found = parts.registry.resolve(ref)
    return _model(parts.registry, found).model_copy(update={"serving": parts.engine.forms.choice(found.digest)})


@router.delete("/models/{ref}", status_code=204)
def delete(ref: str, parts: Parts) -> None:
    """Delete one version (by digest: every version that has it). Its number is never used again."""
    parts.registry.delete(ref)


@router.get("/models/{ref}/modules")
def modules(ref: str, parts: Parts, label: _OneClass = None) -> ModuleList:
    """The modules of a modular model: their sizes, files and overlaps."""
    found = parts.registry.resolve(ref)
    manifest = found.manifest
    if manifest.threshold is None:
        raise Conflict(f"a {manifest.kind} model has no modules", "decompose it first")
    if label is not None and label not in manifest.labels:
        raise NotFound("class", label, f"this model has {', '.join(manifest.labels[:20])}")
    labels = manifest.labels if label is None else (label,)
    return ModuleList(
        model=found.digest,
        threshold=canonical_threshold(manifest.threshold),
        modules=[_module(found, one) for one in labels],
        overlaps=manifest.overlaps,
    )


@router.get(
    "/models/{ref}/weights",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
)
async def weights(
    ref: str, request: Request, parts: Parts, label: _OneClass = None, file_format: WantedFormat = "safetensors"
) -> Response:
    """A model, or one class's module, as one file that needs no registry. Ranges and `If-None-Match` work."""
    source, name = await run_in_threadpool(_source, parts.registry, ref, label)
    file = await parts.exports.file(source, file_format)
    return await run_in_threadpool(downloads.file_response, request, parts.registry, file, f"{name}.{file_format}")


def _source(registry: Registry, ref: str, label: str | None) -> tuple[downloads.Source, str]:
    """What is asked for, and the name to save it under."""
    found = registry.resolve(ref)
    name = f"{found.name}-{found.version}" if found.name else found.digest[:12]
    if label is None:
        return downloads.model_source(registry, found.digest, found.manifest), name
    return downloads.module_source(registry, found.digest, found.manifest, label), f"{name}-{label}"


def _summaries(registry: Registry, name: str) -> list[ModelSummary]:
    """The live versions of a name, newest first; everything that they share is read once."""
    live = [version for version in reversed(registry.versions(name)) if not version.deleted]
    aliases = _aliases(registry, live)
    return [ModelSummary(**_summary(_resolved(registry, version), aliases[version.number])) for version in live]


def _resolved(registry: Registry, version: Version) -> Resolved[Manifest]:
    manifest = registry.manifest(version.digest)
    return Resolved(version.digest, manifest, version.name, version.number, version.created_at)


def _aliases(registry: Registry, live: Sequence[Version]) -> Mapping[int, list[str]]:
    """What the versions of one name go by, by number: `latest` first, then what was set by hand."""
    named: dict[int, list[str]] = defaultdict(list)
    if live:
        named[max(version.number for version in live)].append("latest")
        for alias in registry.aliases(live[0].name):
            named[alias.version].append(alias.alias)
    return named


def _summary(found: Resolved[Manifest], aliases: list[str]) -> dict[str, Any]:
    manifest = found.manifest
    reference = f"{found.name}@{found.version}" if found.name else found.digest
    accuracy = manifest.metrics.get("accuracy")
    return {
        "reference": reference,
        "name": found.name,
        "version": found.version,
        "digest": found.digest,
        "kind": manifest.kind,
        "architecture": manifest.architecture.name,
        "classes": list(manifest.labels),
        "threshold": None if manifest.threshold is None else canonical_threshold(manifest.threshold),
        "accuracy": accuracy if isinstance(accuracy, float | int) else None,
        "created_at": found.created_at,
        "aliases": aliases,
        "links": _links(reference, manifest),
    }


def _links(reference: str, manifest: Manifest) -> dict[str, str]:
    path = f"/models/{reference}"
    links = {"self": path, "weights": f"{path}/weights", "predict": f"/predict?model={reference}"}
    return links if manifest.threshold is None else {**links, "modules": f"{path}/modules"}


def _model(registry: Registry, found: Resolved[Manifest]) -> Model:
    manifest = found.manifest
    stored = manifest.to_json()
    versions = registry.versions(found.name) if found.name else []
    aliases = _aliases(registry, [version for version in versions if not version.deleted])
    same = ("input", "spec", "spec_digest", "execution", "dataset", "metrics", "sizes", "overlaps", "lineage", "blobs")
    return Model(
        **_summary(found, aliases[found.version] if found.version else []),
        architecture_arguments=stored["architecture"],
        **{name: stored[name] for name in same},
    )


def _module(found: Resolved[Manifest], label: str) -> Module:
    blob = found.manifest.blobs.get(f"modules/{label}")
    size = found.manifest.sizes.get(label)
    return Module(
        label=label,
        size=size if isinstance(size, float | int) else None,
        digest=blob.digest if blob else None,
        size_bytes=blob.size_bytes if blob else None,
        links={"weights": f"/models/{found.digest}/weights?class={quote(label, safe='')}"},
    )
