"""`moda models`, `modules` and `download`: what the registry holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moda_core.errors import NotFound
from service.commands.options import DEFAULT_URL, AsJson, Format, Out, Url
from service.commands.terminal import shares, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from moda_core.storage.formats import FileFormat
    from service import schemas
    from service.client import Client

__all__ = ["download", "list_all", "modules"]


def list_all(
    *,
    model: Annotated[str | None, typer.Argument(help="One model; all when left out.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the models, or show one."""
    from service.client import Client, as_plain

    with Client(url) as client:
        if model is None:
            listed = client.models()
            show([as_plain(one) for one in listed], as_json=as_json, people=lambda: _table(listed))
        else:
            found = client.model(model)
            show(as_plain(found), as_json=as_json, people=lambda: _facts(found))


def modules(
    *,
    model: Annotated[str, typer.Argument(help="A modular or composed model.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List a model's modules with their sizes."""
    from service.client import Client, as_plain

    with Client(url) as client:
        found = client.modules(model)
    show(as_plain(found), as_json=as_json, people=lambda: _modules(found))


def download(
    *,
    model: Annotated[str, typer.Argument(help="A model, or a composition's id.")],
    label: Annotated[str | None, typer.Option("--class", "-c", help="This class's module alone.")] = None,
    file_format: Format = "safetensors",
    out: Out = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Write a model, one of its modules or a composition to a file."""
    from service.client import Client

    to = out or Path(f"{_stem(model, label)}.{file_format}")
    with Client(url, timeout_s=600) as client:
        size_bytes = _download(client, model, label, file_format, to)
    written = {"file": str(to), "size_bytes": size_bytes}
    show(written, as_json=as_json, people=lambda: f"{to}: {size_bytes:,} bytes")


def _download(client: Client, model: str, label: str | None, file_format: FileFormat, to: Path) -> int:
    try:
        return client.download_weights(model, to, label=label, file_format=file_format)
    except NotFound:
        if label is not None or not re.fullmatch("[0-9a-f]{64}", model):
            raise
        return client.download_composition(model, to, file_format=file_format)


def _stem(model: str, label: str | None) -> str:
    stem = re.sub("[0-9a-f]{64}", lambda digest: digest[0][:12], model).replace("@", "-")
    shown = "" if label is None else "-" + re.sub(r"[^\w.-]", "_", label)
    return f"{stem}{shown}"


def _table(models: list[schemas.ModelSummary]) -> Table:
    rows = [
        (
            one.reference if one.name else one.digest[:12],
            one.kind,
            one.architecture,
            len(one.classes),
            one.threshold,
            shares(one.accuracy),
            ", ".join(one.aliases),
            one.digest[:12],
        )
        for one in models
    ]
    columns = ("Model", "Kind", "Architecture", ">Classes", ">τ", ">Accuracy", "Aliases", "Digest")
    return table(*columns, rows=rows, empty="No model yet: moda train digits")


def _facts(model: schemas.Model) -> Table:
    size_bytes = sum(blob.get("size_bytes", 0) for blob in model.blobs.values() if isinstance(blob, dict))
    facts = {
        "Model": model.reference,
        "Digest": model.digest,
        "Kind": model.kind,
        "Architecture": model.architecture,
        "Classes": ", ".join(model.classes),
        "τ": model.threshold,
        "Accuracy": shares(model.accuracy),
        "Input": f"{model.input.get('channels')} x {model.input.get('image_size')} x {model.input.get('image_size')}",
        "Data set": (model.dataset or {}).get("digest"),
        "Made from": ", ".join(model.lineage.get("parents", [])) or None,
        "Files": f"{len(model.blobs)}, {size_bytes:,} bytes",
    }
    return table("", "", rows=facts.items())


def _modules(found: schemas.ModuleList) -> Table:
    rows = [(one.label, shares(one.size), one.size_bytes and f"{one.size_bytes:,}") for one in found.modules]
    return table("Class", ">Size", ">Bytes", rows=rows, title=f"Modules at τ = {found.threshold}")
