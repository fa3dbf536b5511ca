"""`moda compose` and `moda predict`: from modules to answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moda_core.errors import UnreadableFile
from service.commands.options import DEFAULT_HOME, DEFAULT_URL, AsJson, Device, Format, Home, Local, Out, Threshold, Url
from service.commands.terminal import shares, show, table

if TYPE_CHECKING:
    from rich.table import Table

    from service import schemas

__all__ = ["compose", "composition_table", "predict", "prediction_table"]


def compose(
    *,
    model: Annotated[str, typer.Argument(help="A modular or composed model.")],
    classes: Annotated[list[str], typer.Argument(help="The classes wanted, in the order of the answers.")],
    threshold: Threshold = None,
    out: Out = None,
    file_format: Format = "safetensors",
    local: Local = False,
    home: Home = DEFAULT_HOME,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a small model for some classes, without any training."""
    if local:
        from service.commands.local import compose_here

        compose_here(home, model, classes, threshold=threshold, out=out, file_format=file_format, as_json=as_json)
        return
    from service.client import Client, as_plain

    with Client(url, timeout_s=600) as client:
        made = client.compose(model, classes, threshold=threshold)
        if out is not None:
            client.download_composition(made.id, out, file_format=file_format)
    show(as_plain(made), as_json=as_json, people=lambda: composition_table(made, out))


def predict(
    *,
    model: Annotated[str, typer.Argument(help="A model or a composition's id.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    local: Local = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Classify image files."""
    contents = [_content(image) for image in images]
    if local:
        from service.commands.local import predict_here

        predict_here(home, model, images, contents, device=device, as_json=as_json)
        return
    from service.client import Client, as_plain

    with Client(url) as client:
        answer = client.predict(model, contents)
    show(as_plain(answer), as_json=as_json, people=lambda: prediction_table(images, answer))


def composition_table(made: schemas.Composition, out: Path | None) -> Table:
    """A composition with its sizes, for people."""
    facts: dict[str, object] = {
        "Composition": made.id,
        "Classes": ", ".join(made.classes),
        "τ": made.threshold,
        "Parameters": _part(made.kept_parameters, made.original_parameters),
        "FLOPs an image": _part(made.kept_flops, made.original_flops),
        "Overlap": shares(made.overlap),
        "Made in": None if made.compose_ms is None else f"{made.compose_ms:.1f} ms",
    }
    if out is not None:
        facts["Written to"] = out
    return table("", "", rows=facts.items())


def prediction_table(images: Sequence[Path], answer: schemas.PredictionList) -> Table:
    """One line per image, for people."""
    rows = [(image, one.label, shares(one.probability)) for image, one in zip(images, answer.predictions, strict=True)]
    return table("Image", "Class", ">Probability", rows=rows)


def _part(kept: int, original: int) -> str:
    return f"{kept:,} of {original:,} ({shares(kept / original)})"


def _content(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UnreadableFile("image", str(image), error.strerror or "unreadable", "name a readable file") from error
