"""Data sets: uploaded, or imported from where the server may look."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from moda_core.errors import InvalidInput, UnreadableFile, UnsupportedType
from moda_core.storage.manifests import DatasetManifest
from moda_core.storage.references import check_stored_name
from moda_core.storage.registry import Resolved
from service.api.dependencies import Parts
from service.api.jobs import accepted
from service.schemas import Dataset, DatasetImport, DatasetList, Job
from service.settings import Settings
from service.uploads import keep
from worker.contract import ImportRequest

__all__ = ["router"]

router = APIRouter(tags=["data sets"])

_EMBEDDED = "digits"
_PREFIXES = {"cifar10", "cifar100", "svhn", "mnist", "fashion-mnist"}
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
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=10) as form:
            yield form
    elif media_type == "application/json":
        yield _validated(await request.body())
    else:
        remedy = "send multipart/form-data or application/json"
        raise UnsupportedType("Content-Type", media_type, "not a type that can be imported", remedy)


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
    request = _from_form(sent, parts.settings) if isinstance(sent, FormData) else _from_source(sent, parts.settings)
    return accepted(parts, response, request)


@router.get("/datasets/{ref}")
def dataset(ref: str, parts: Parts) -> Dataset:
    """One data set."""
    return _dataset(parts.registry.resolve_dataset(ref))


@router.delete("/datasets/{ref}", status_code=204)
def delete(ref: str, parts: Parts) -> None:
    """Delete one version of a data set (by digest: every version that has it)."""
    parts.registry.delete_dataset(ref)


def _from_form(form: FormData, settings: Settings) -> ImportRequest:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidInput("file", None, "no file", "send an .npz or .zip file as the part named file")
    members = {key: value for key, value in form.items() if key != "file"}
    asked = _validated({**members, "source": "upload"})
    check_stored_name("name", asked.name)
    suffix = Path(file.filename or "").suffix.lower()
    if suffix not in _SUFFIXES:
        raise UnsupportedType("file", file.filename, "not a kind of data set", "send an .npz or .zip file")
    _check_archive(file)
    path, digest = keep(file.file, settings.uploads, suffix)
    return ImportRequest(
        name=asked.name, source=str(path), image_size=asked.image_size, seed=asked.seed, content=digest
    )


def _check_archive(file: UploadFile) -> None:
    """Refuse at once what cannot be imported later: half an archive, or one with paths that lead out of it."""
    try:
        with zipfile.ZipFile(file.file) as archive:
            paths = [PureWindowsPath(name) for name in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise UnreadableFile("file", file.filename, "not a whole archive", "send an .npz or .zip file") from error
    for path in paths:
        if path.anchor or ".." in path.parts:
            raise UnreadableFile("file", path.as_posix(), "a path that leads out of the archive", "pack it again")


def _from_source(asked: DatasetImport, settings: Settings) -> ImportRequest:
    check_stored_name("name", asked.name)
    source = asked.source
    if source != _EMBEDDED:
        prefix, colon, path = source.partition(":")
        known = bool(colon) and prefix in _PREFIXES
        source = (f"{prefix}:" if known else "") + str(_allowed(path if known else source, settings.import_dir))
    return ImportRequest(name=asked.name, source=source, image_size=asked.image_size, seed=asked.seed)


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
