"""Data sets: uploaded, or imported from where the server may look."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from moda_core.data import sources
from moda_core.errors import InvalidInput, UnreadableFile, UnsupportedType
from moda_core.files import storing
from moda_core.specs import canonical_json, sha256
from moda_core.storage.manifests import DatasetManifest
from moda_core.storage.references import check_stored_name
from moda_core.storage.registry import Registry, Resolved
from moda_core.storage.workflows.importing import UPLOAD
from service.api.dependencies import Parts
from service.api.jobs import accepted
from service.headers import media_type
from service.schemas import Dataset, DatasetImport, DatasetList, Job
from service.settings import Settings
from service.uploads import received
from worker.contract import ImportRequest

__all__ = ["router"]

router = APIRouter(tags=["data sets"])

_SUFFIXES = (".npz", ".zip")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string", "maxLength": 64},
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "An `.npz` with x_train, y_train, x_test, y_test and classes, or a `.zip` "
                            "of class folders.",
                        },
                        "image_size": {"type": "integer", "minimum": 8, "maximum": 1024},
                        "seed": {"type": "integer", "minimum": 0},
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/DatasetImport"}},
        },
    }
}


async def _sent(request: Request) -> AsyncIterator[DatasetImport | FormData]:
    """The request, as JSON or as a form; read on the event loop, before the endpoint's own thread."""
    sent = media_type(request.scope)
    if sent == "multipart/form-data":
        async with request.form(max_files=1, max_fields=10) as form:
            yield form
    elif sent == "application/json":
        yield _validated(await request.body())
    else:
        remedy = "send multipart/form-data or application/json"
        raise UnsupportedType("Content-Type", sent, "not a type that can be imported", remedy)


def _validated(body: bytes | dict[str, Any]) -> DatasetImport:
    try:
        if isinstance(body, bytes):
            return DatasetImport.model_validate_json(body)
        return DatasetImport.model_validate(body, strict=False)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error


@router.get("/datasets")
def datasets(parts: Parts) -> DatasetList:
    """Every data set, each in its newest version."""
    return DatasetList(datasets=[_dataset(one) for one in parts.registry.datasets()])


@router.post("/datasets", status_code=202, openapi_extra=_BODY)
def import_dataset(sent: Annotated[Any, Depends(_sent)], parts: Parts, response: Response) -> Job:
    """Import a data set under a name: an uploaded file, or one that the server has."""
    if isinstance(sent, FormData):
        return accepted(parts, response, _from_form(sent, parts.settings, parts.registry))
    return accepted(parts, response, _from_source(sent, parts.settings.import_dir))


@router.get("/datasets/{ref}")
def dataset(ref: str, parts: Parts) -> Dataset:
    """One data set."""
    return _dataset(parts.registry.resolve_dataset(ref))


@router.delete("/datasets/{ref}", status_code=204)
def delete(ref: str, parts: Parts) -> None:
    """Delete one version of a data set (by digest: every version that has it)."""
    parts.registry.delete_dataset(ref)


def _from_form(form: FormData, settings: Settings, registry: Registry) -> ImportRequest:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidInput("file", None, "no file", "send an .npz or .zip file as the part named file")
    members = {key: value for key, value in form.items() if key != "file"}
    asked = _validated({**members, "source": UPLOAD})
    if asked.download:
        raise InvalidInput("download", True, "not for a file that is sent", "leave it out")
    check_stored_name("name", asked.name)
    suffix = Path(file.filename or "").suffix.lower()
    if suffix not in _SUFFIXES:
        raise UnsupportedType("file", file.filename, "not a kind of data set", "send an .npz or .zip file")
    with received(file.file, settings.uploads, suffix) as path:
        _check_archive(path, str(file.filename))
        source = f"{UPLOAD}:{registry.put_upload(path)}"
    return ImportRequest(name=asked.name, source=source, image_size=asked.image_size, seed=asked.seed)


def _check_archive(path: Path, name: str) -> None:
    """Refuse at once what can be seen to be no data set.

    Raises:
        InvalidInput: of any class, about the part named file, under the name that its sender knows.
    """
    try:
        sources.check(path)
    except UnsupportedType as error:
        raise UnreadableFile("file", name, "not a whole archive", "send an .npz or .zip file") from error
    except InvalidInput as error:
        value = name if error.value == path.name else error.value
        raise type(error)("file", value, error.problem, error.remedy) from error


def _from_source(asked: DatasetImport, folder: Path | None) -> ImportRequest:
    """The import of what the server has, with a stamp of it as it is now."""
    check_stored_name("name", asked.name)
    scheme, colon, path = asked.source.partition(":")
    official = scheme in sources.schemes() and bool(colon or asked.download)
    if asked.download and not official:
        remedy = f"download one of {', '.join(sources.schemes())}"
        raise InvalidInput("download", asked.source, "not a set that is published", remedy)
    source, content = asked.source, None
    if official and not path:
        if not asked.download:
            remedy = f"name a folder of the server ({scheme}:PATH), or set download"
            raise InvalidInput("source", asked.source, "no path after the colon", remedy)
        source = f"{scheme}:"
    elif source != sources.EMBEDDED:
        found = _allowed(path if official else source, folder)
        if not official:
            sources.check(found)
        source, content = f"{scheme}:{found}" if official else str(found), _stamp(found)
    return ImportRequest(
        name=asked.name,
        source=source,
        image_size=asked.image_size,
        seed=asked.seed,
        download=asked.download,
        content=content,
    )


def _stamp(path: Path) -> str:
    """What changes whenever a file at or below a path does: no content is read for it."""
    with storing(path):
        return sha256(canonical_json([[os.fsencode(file).hex(), *_times(file)] for file in sorted(_files(path))]))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path):
        for name in names:
            yield Path(folder) / name


def _times(file: Path) -> tuple[int, int, int]:
    found = file.lstat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _allowed(path: str, folder: Path | None) -> Path:
    """A path of the server, if it lies below the folder that may be imported from.

    Raises:
        InvalidInput: else; whether anything exists outside of the folder cannot be learnt from it.
    """
    if folder is None:
        remedy = "upload the file, or start the service with MODA_IMPORT_DIR"
        raise InvalidInput("source", path, "folders of the server are not open for import", remedy)
    root = folder.resolve()
    try:
        found = (root / path).resolve()
        inside = found.is_relative_to(root) and found.exists()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise InvalidInput("source", path, "nothing below the import folder", "name a file or folder in it")
    return found


def _dataset(found: Resolved[DatasetManifest]) -> Dataset:
    manifest = found.manifest
    reference = f"{found.name}@{found.version}" if found.name else found.digest
    return Dataset(
        reference=reference,
        name=found.name,
        version=found.version,
        digest=found.digest,
        classes=list(manifest.classes),
        train=manifest.images["train"],
        test=manifest.images["test"],
        image=list(manifest.shape),
        links={"self": f"/datasets/{reference}"},
    )
