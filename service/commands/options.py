"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from moda_core.storage.formats import FileFormat

__all__ = [
    "DEFAULT_HOME",
    "DEFAULT_URL",
    "AsJson",
    "Detach",
    "Device",
    "Format",
    "Home",
    "Local",
    "Out",
    "Threshold",
    "Url",
]

DEFAULT_HOME = Path("~/.moda")
DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option("--url", envvar="MODA_URL", help="The service's address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
Local = Annotated[bool, typer.Option("--local", help="Work on the registry itself, without a service.")]
Home = Annotated[Path, typer.Option("--home", envvar="MODA_HOME", help="Where MODA keeps its files.")]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        "-t",
        help="τ: a unit is in a class's module when it was active for at least this share of the class's samples.",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the job and return; it goes on by itself.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")]
Format = Annotated[
    FileFormat,
    typer.Option("--format", "-f", help="safetensors; or onnx or pt2, which run without MODA."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", envvar="MODA_DEVICE", help="auto, cpu or cuda; auto takes CUDA when it is there."),
]
