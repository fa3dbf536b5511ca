"""The registry: everything MODA keeps, on one object store, behind one value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from moda_core.data.dataset import Dataset
from moda_core.errors import Corrupt, InvalidInput, NotFound
from moda_core.modularity.models import Model
from moda_core.specs import sha256
from moda_core.storage import artifacts, datasets
from moda_core.storage.formats import FileFormat
from moda_core.storage.manifests import BlobRef, Composition, DatasetManifest, Manifest, parse_manifest
from moda_core.storage.references import Reference, check_digest, parse_reference
from moda_core.storage.registry.blobs import Blobs
from moda_core.storage.registry.checkpoints import StoredCheckpoints
from moda_core.storage.registry.compositions import Compositions
from moda_core.storage.registry.derived import derived_file, derived_key, put_derived_file
from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.records import put_once, read_record
from moda_core.storage.registry.uploads import Uploads
from moda_core.storage.registry.versions import Alias, NamedVersions, Version

__all__ = ["Registry", "Resolved"]

AnyManifest = TypeVar("AnyManifest", Manifest, DatasetManifest)
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Resolved(Generic[AnyManifest]):
    """What a reference names; without name, version and time when the reference was a digest."""

    digest: str
    manifest: AnyManifest
    name: str | None = None
    version: int | None = None
    created_at: str | None = None


class Registry:
    """Models, data sets, compositions and checkpoints on a local folder or an object store.

    Args:
        location: a folder, made if absent, or a URL: ``s3://bucket/prefix``, ``gs://...``, ``az://...``.
        cache: a folder for copies of blobs that lie elsewhere; a temporary one by default.

    Raises:
        InvalidInput: for a URL that names no store.
        StorageFailure: when the folder cannot be made.
    """

    def __init__(self, location: str | Path | Objects, *, cache: Path | None = None) -> None:
        self._objects = location if isinstance(location, Objects) else Objects(location)
        self._blobs = Blobs(self._objects, cache)
        self._models = NamedVersions(self._objects, "model")
        self._datasets = NamedVersions(self._objects, "dataset")
        self._compositions = Compositions(self._objects)
        self._uploads = Uploads(self._objects)
        self._manifests: dict[str, Manifest | DatasetManifest] = {}

    def check(self) -> None:
        """Try the store.

        Raises:
            StorageFailure: when it cannot be written and read.
        """
        self._objects.check()

    # --- blobs and manifests ---

    def put_blob(self, data: bytes) -> BlobRef:
        """Store bytes under their digest; durable when this returns."""
        return self._blobs.put(data)

    def blob_path(self, blob: BlobRef) -> Path:
        """A local file that holds a blob, checked once per process; never to be written to.

        Raises:
            NotFound: without it.
            Corrupt: when its length or digest differ.
        """
        return self._blobs.path(blob)

    def put_manifest(self, manifest: Manifest | DatasetManifest) -> str:
        """Store a manifest, after its blobs, in place of a damaged one; returns its digest."""
        key, data = _manifest_key(manifest.digest), manifest.canonical()
        if not self._objects.create(key, data) and self._objects.get(key) != data:
            self._objects.put(key, data)
        return manifest.digest

    def manifest(self, digest: str) -> Manifest:
        """A model's manifest by digest, whether or not a version names it.

        Raises:
            NotFound: without it.
            Corrupt: when its bytes differ from the digest.
        """
        manifest = self._manifest("model", digest)
        if not isinstance(manifest, Manifest):
            raise NotFound("model", digest, "this digest is a data set's")
        return manifest

    def dataset_manifest(self, digest: str) -> DatasetManifest:
        """A data set's manifest by digest, whether or not a version names it.

        Raises:
            NotFound: without it.
            Corrupt: when its bytes differ from the digest.
        """
        manifest = self._manifest("dataset", digest)
        if not isinstance(manifest, DatasetManifest):
            raise NotFound("dataset", digest, "this digest is a model's")
        return manifest

    def _manifest(self, kind: str, digest: str) -> Manifest | DatasetManifest:
        if digest not in self._manifests:
            check_digest("digest", digest)
            try:
                data = self._objects.get(_manifest_key(digest))
            except NotFound as error:
                raise NotFound(kind, digest, "nothing was published under this digest") from error
            if sha256(data) != digest:
                raise Corrupt(f"the bytes of manifest {digest} differ from it", "restore it from a copy")
            self._manifests[digest] = parse_manifest(data)
        return self._manifests[digest]

    # --- models ---

    def publish_version(self, name: str, digest: str, job_id: str | None = None) -> int:
        """Let a stored model appear as the next version of a name; the same job and digest, once.

        Raises:
            NotFound: without its manifest.
        """
        self.manifest(digest)
        return self._models.publish(name, digest, job_id)

    def resolve(self, reference: str) -> Resolved[Manifest]:
        """What a model's reference means now. A digest finds its model also where no live version has it.

        Raises:
            InvalidInput: for a string that is no reference.
            NotFound: when nothing has it.
        """
        digest, version = _found(self._models, parse_reference(reference))
        return Resolved(digest, self.manifest(digest), *_place(version))

    def stamp(self, reference: str) -> object:
        """A value that stays equal while nothing that a model's reference means can have changed.

        What a digest means never changes. Of a store elsewhere, which would have to be asked, a change of a
        name shows within a second.

        Raises:
            InvalidInput: for a string that is no reference.
        """
        return self._models.stamp(parse_reference(reference))

    def models(self) -> list[Resolved[Manifest]]:
        """The latest live version of every name, by name."""
        return [Resolved(one.digest, self.manifest(one.digest), *_place(one)) for one in self._models.latest()]

    def model_names(self) -> list[str]:
        """Every name of which a version was ever published, whether or not one is live."""
        return self._models.all_names()

    def versions(self, name: str) -> list[Version]:
        """All versions of a model's name, ascending, deleted ones among them.

        Raises:
            NotFound: for a name that never had one.
        """
        versions = self._models.versions(name)
        if not versions:
            raise NotFound("model", name, f"models are: {', '.join(self._models.names()) or 'none yet'}")
        return versions

    def delete(self, reference: str) -> list[Version]:
        """Delete the version that a reference names, or all that have its digest; returns them.

        Raises:
            NotFound: without such a live version.
        """
        return self._models.delete(parse_reference(reference))

    def model(self, digest: str) -> Model:
        """A model with its tensors mapped into memory.

        Raises:
            NotFound: without it, or without one of its blobs.
            Corrupt: when stored bytes differ from their digest.
            UnreadableFile: when its files are not what its manifest says.
        """
        manifest = self.manifest(digest)
        counts = manifest.blobs.get("counts")
        model = artifacts.decode(
            self.blob_path(manifest.blobs["weights"]),
            counts=self.blob_path(counts) if counts else None,
            verify=False,
        )
        artifacts.check_described(model, manifest)
        return model

    def put_model_file(self, digest: str, data: bytes, file_format: FileFormat = "safetensors") -> BlobRef:
        """Keep the file that holds a whole model; where one of the format is kept already, that one holds."""
        return put_derived_file(self._objects, _file_key(digest, file_format), self.put_blob(data))

    def model_file(self, digest: str, file_format: FileFormat = "safetensors") -> BlobRef | None:
        """The one file of a model that is not stored so itself, if it was derived before."""
        return derived_file(self._objects, _file_key(digest, file_format))

    # --- aliases ---

    def set_alias(self, name: str, alias: str, target: int | str, expected: int | None = None) -> Alias:
        """Let ``name@alias`` mean a version, by number or digest.

        `expected` is the alias's `number` as last seen (0: none yet); None sets it whatever it is.

        Raises:
            NotFound: without such a live version of this name.
            PreconditionFailed: when the alias has changed since.
        """
        if isinstance(target, str):
            digest = parse_reference(target).digest
            holding = [version.number for version in self._models.holding(digest or "") if version.name == name]
            if not holding:
                raise NotFound("model", f"{name}@{target}", "no live version of this name has this digest")
            target = max(holding)
        return self._models.set_alias(name, alias, target, expected=expected)

    def alias(self, name: str, alias: str) -> Alias:
        """What an alias means now.

        Raises:
            NotFound: for an alias that was never set.
        """
        return self._models.alias(name, alias)

    def aliases(self, name: str) -> list[Alias]:
        """All aliases of a model's name, as they are now."""
        return self._models.aliases(name)

    def alias_history(self, name: str, alias: str) -> list[Alias]:
        """Everything an alias has meant, oldest first."""
        return self._models.alias_history(name, alias)

    # --- compositions ---

    def put_composition(self, recipe: Composition) -> str:
        """Store a recipe under its id, which it returns; again is the same.

        Raises:
            NotFound: without the model it names.
        """
        self.manifest(recipe.model)
        return self._compositions.put(recipe)

    def composition(self, composition_id: str) -> Composition:
        """A recipe by its id.

        Raises:
            NotFound: without it.
            Corrupt: when what is stored has another id.
        """
        return self._compositions.get(composition_id)

    def compositions(self) -> list[Composition]:
        """All recipes, by id."""
        return self._compositions.all()

    def put_composition_file(
        self, composition_id: str, data: bytes, file_format: FileFormat = "safetensors"
    ) -> BlobRef:
        """Keep the file that was derived from a recipe; where one of the format is kept already, that one holds."""
        return self._compositions.put_file(composition_id, self.put_blob(data), file_format)

    def composition_file(self, composition_id: str, file_format: FileFormat = "safetensors") -> BlobRef | None:
        """The file of a composed model, if it was derived before; its path comes from `blob_path`."""
        return self._compositions.file(composition_id, file_format)

    # --- data sets ---

    def put_dataset(self, name: str, dataset: Dataset) -> str:
        """Store a data set and let it appear as a version of a name; returns its digest.

        The same images under the same name are the same version.
        """
        digest = self.store_dataset(dataset)
        self.put_dataset_version(name, digest)
        return digest

    def put_dataset_version(self, name: str, digest: str) -> None:
        """Let a stored data set be the latest version of a name, unless it is.

        Raises:
            NotFound: without its manifest.
        """
        live = [version for version in self._datasets.versions(name) if not version.deleted]
        if not live or live[-1].digest != digest:
            self.publish_dataset(name, digest)

    def store_dataset(self, dataset: Dataset) -> str:
        """Store a data set without a name; returns its digest."""
        return self.put_manifest(datasets.manifest_of(dataset, self.put_blob(datasets.encode(dataset))))

    def publish_dataset(self, name: str, digest: str, job_id: str | None = None) -> int:
        """Let a stored data set appear as the next version of a name; the same job and digest, once.

        Raises:
            NotFound: without its manifest.
        """
        self.dataset_manifest(digest)
        return self._datasets.publish(name, digest, job_id)

    def resolve_dataset(self, reference: str) -> Resolved[DatasetManifest]:
        """What a data set's reference means now.

        Raises:
            InvalidInput: for a string that is no reference.
            NotFound: when nothing has it.
        """
        digest, version = _found(self._datasets, parse_reference(reference, field="dataset"))
        return Resolved(digest, self.dataset_manifest(digest), *_place(version))

    def dataset(self, reference: str) -> Dataset:
        """A data set with its images mapped into memory.

        Raises:
            NotFound: when nothing has the reference.
            Corrupt: when stored bytes differ from their digest.
        """
        manifest = self.resolve_dataset(reference).manifest
        return datasets.decode(self.blob_path(manifest.blob), manifest)

    def datasets(self) -> list[Resolved[DatasetManifest]]:
        """The latest live version of every name, by name."""
        return [
            Resolved(one.digest, self.dataset_manifest(one.digest), *_place(one)) for one in self._datasets.latest()
        ]

    def delete_dataset(self, reference: str) -> list[Version]:
        """Delete the version that a reference names, or all that have its digest; returns them.

        Raises:
            NotFound: without such a live version.
        """
        return self._datasets.delete(parse_reference(reference, field="dataset"))

    # --- jobs ---

    def put_upload(self, path: Path) -> str:
        """Keep a file for an import that follows within a week; returns its digest."""
        return self._uploads.put(path)

    def upload(self, digest: str) -> AbstractContextManager[Path]:
        """A local file with the bytes of an upload, for as long as the context lasts.

        Raises:
            NotFound: without it.
            Corrupt: when its bytes differ from the digest.
        """
        return self._uploads.file(digest)

    def checkpoints(self, spec_digest: str) -> StoredCheckpoints:
        """Where the run with this spec keeps its checkpoints."""
        return StoredCheckpoints(self._objects, spec_digest)

    def clear_checkpoints(self, spec_digest: str) -> None:
        """Drop the checkpoints of a run whose result is published."""
        self.checkpoints(spec_digest).clear()

    def claim_publication(self, job_id: str, digests: Sequence[str]) -> list[str]:
        """Decide, once for all, what a job has published: the first claim holds, and everyone gets it."""
        return list(put_once(self._objects, _publication_key(job_id), {"digests": list(digests)})["digests"])

    def publication(self, job_id: str) -> list[str] | None:
        """What a job has published, if anything."""
        try:
            return list(read_record(self._objects, _publication_key(job_id), {"digests"})["digests"])
        except NotFound:
            return None


def _manifest_key(digest: str) -> str:
    return f"manifests/{digest}.json"


def _file_key(digest: str, file_format: FileFormat) -> str:
    return derived_key(f"files/{digest}", file_format)


def _publication_key(job_id: str) -> str:
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidInput("job_id", job_id, "not a job's id", "use 1 to 128 letters, digits, '_' and '-'")
    return f"publications/{job_id}.json"


def _found(names: NamedVersions, reference: Reference) -> tuple[str, Version | None]:
    """Digest and version; a digest is not searched for among all names, because it says enough itself."""
    if reference.digest is not None:
        return reference.digest, None
    version = names.find(reference)
    return version.digest, version


def _place(version: Version | None) -> tuple[str | None, int | None, str | None]:
    return (version.name, version.number, version.created_at) if version else (None, None, None)
