"""`moda dataset add` and `moda dataset list`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zipfile import ZipFile

import typer

from moda_core.errors import InvalidInput
from service.commands.following import follow
from service.commands.options import DEFAULT_HOME, DEFAULT_URL, AsJson, Detach, Home, Local, Url
from service.commands.terminal import show, table
from service.commands.work import show_job

if TYPE_CHECKING:
    from rich.table import Table

    from service import schemas

__all__ = ["add", "list_all"]

_SCHEME = re.compile(r"[a-z0-9-]{2,}:")  # two letters at least: C: is a drive
_UPLOADED = (".npz", ".zip")


def add(
    *,
    name: Annotated[str, typer.Argument(help="The name to give it.")],
    source: Annotated[
        str,
        typer.Argument(
            help="digits; a .npz, a .zip or a folder of class folders, which is sent; "
            "or cifar10:PATH, cifar100:PATH, svhn:PATH, mnist:PATH, fashion-mnist:PATH in the service's import folder."
        ),
    ],
    image_size: Annotated[int | None, typer.Option("--image-size", help="Resize to this many pixels.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split, where the source has none.")] = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a published set (cifar10, svhn, ...): the worker downloads it.")
    ] = False,
    on_service: Annotated[
        bool, typer.Option("--on-service", help="SOURCE is a path in the service's import folder: send nothing.")
    ] = False,
    local: Local = False,
    home: Home = DEFAULT_HOME,
    url: Url = DEFAULT_URL,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Import a data set once, under a name."""
    if local:
        from service.commands.local import import_here

        import_here(home, name, source, image_size=image_size, seed=seed, as_json=as_json)
        return
    from service.client import Client

    with Client(url, timeout_s=600) as client:
        if on_service or download or _named(source):
            job = client.import_dataset(name, source, image_size=image_size, seed=seed, download=download)
        else:
            with _file_to_send(Path(source)) as file:
                job = client.upload_dataset(name, file, image_size=image_size, seed=seed)
        show_job(job if detach else follow(client, job, quiet=as_json), as_json=as_json)


def list_all(*, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the data sets."""
    from service.client import Client, as_plain

    with Client(url) as client:
        datasets = client.datasets()
    show([as_plain(dataset) for dataset in datasets], as_json=as_json, people=lambda: _table(datasets))


def _named(source: str) -> bool:
    """Whether a source is one that the service knows by name: ``digits``, or ``cifar10:PATH``."""
    return source == "digits" or bool(_SCHEME.match(source))


@contextmanager
def _file_to_send(source: Path) -> Iterator[Path]:
    """The file itself, or a folder as a zip that is removed afterwards."""
    if not source.exists():
        raise InvalidInput(
            "source", str(source), "there is no such file or folder", "see `moda dataset add --help` for what is taken"
        )
    if source.is_file():
        if source.suffix.lower() not in _UPLOADED:
            raise InvalidInput("source", str(source), "not a data-set file", f"give one of {', '.join(_UPLOADED)}")
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{source.resolve().name}.zip"
        # Empty folders too: a class without an image must be seen to be missing.
        with ZipFile(packed, "w", strict_timestamps=False) as archive:
            for path in sorted(source.rglob("*")):
                archive.write(path, path.relative_to(source))
        yield packed


def _table(datasets: list[schemas.Dataset]) -> Table:
    rows = [
        (one.reference, len(one.classes), one.train, one.test, "x".join(map(str, one.image)), one.digest[:12])
        for one in datasets
    ]
    empty = "No data set yet: moda dataset add digits digits"
    return table("Data set", ">Classes", ">Train", ">Test", "Image", "Digest", rows=rows, empty=empty)
