"""Downloads in every format: what is derived first is made once, and what is exported, by another process, one at a time.

Tracing a model replaces the call of every module in its process, and holds the interpreter for half a second at
a time: predictions must not wait for that, nor run beside it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.concurrency import run_in_threadpool

from moda_core.errors import ModaError, NotExportable, Overloaded, Unavailable
from moda_core.files import storing
from moda_core.storage.formats import FileFormat
from service.downloads import File, Source
from service.processes import environment, python

__all__ = ["Exports"]

_MOST_WAITING = 16
_LIMIT_S = 600.0
_RETRY_AFTER_S = 30
_REMEDY = "try again later, or download it as safetensors"


class Exports:
    """The files of models; requests for one that is being made wait for it together."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._making: dict[tuple[str, FileFormat], asyncio.Task[File]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    async def file(self, source: Source, file_format: FileFormat) -> File:
        """A model's file in a format: the kept one, or a new one.

        Raises:
            NotExportable: when it cannot be written in this format, or would answer differently.
            Overloaded: when too many others wait.
            Unavailable: when the export took too long or was killed.
        """
        if file_format == "safetensors" and source.stored:
            return File(source.stored)
        kept = await run_in_threadpool(source.kept, file_format)
        if kept is not None:
            return kept
        # A client that leaves does not end what others may wait for.
        return await asyncio.shield(self._made_once(source, file_format))

    def close(self) -> None:
        """End the export that is running; those that wait fail."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _made_once(self, source: Source, file_format: FileFormat) -> asyncio.Task[File]:
        key = source.key, file_format
        if key not in self._making:
            exports = sum(wanted != "safetensors" for _, wanted in self._making)
            if file_format != "safetensors" and exports >= _MOST_WAITING:
                raise Overloaded(f"{_MOST_WAITING} exports are waiting already", _REMEDY, _RETRY_AFTER_S)
            made = self._encoded(source) if file_format == "safetensors" else self._made(source, file_format)
            task = asyncio.create_task(made)
            task.add_done_callback(lambda _: self._making.pop(key))
            self._making[key] = task
        return self._making[key]

    async def _encoded(self, source: Source) -> File:
        return await run_in_threadpool(source.safetensors)

    async def _made(self, source: Source, file_format: FileFormat) -> File:
        async with self._one:
            whole = await self.file(source, "safetensors")
            exported = partial(self._exported, source, whole, file_format)
            return await run_in_threadpool(source.derived, file_format, exported)

    def _exported(self, source: Source, whole: File, file_format: FileFormat) -> bytes:
        if self._closed:
            raise Unavailable("the service is stopping", _REMEDY)
        with TemporaryDirectory(prefix="moda-export-") as folder:
            given, made = _given(source, whole, Path(folder)), Path(folder, "made")
            self._run(python("service.export_process", file_format, str(given), str(made)))
            return made.read_bytes()

    def _run(self, command: list[str]) -> None:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment({}), start_new_session=True
        ) as process:
            self._process = process
            if self._closed:
                process.kill()
            try:
                said, _ = process.communicate(timeout=_LIMIT_S)
            except subprocess.TimeoutExpired as error:
                raise Unavailable(f"the export took longer than {_LIMIT_S:.0f} s", _REMEDY) from error
            finally:
                self._process = None
                process.kill()
        _check(process.returncode, said)


def _given(source: Source, whole: File, folder: Path) -> Path:
    """The model's safetensors file: the store's, or a copy of what the store could not take."""
    if whole.data is None:
        return source.registry.blob_path(whole.blob)
    path = folder / "model.safetensors"
    with storing(path):
        path.write_bytes(whole.data)
    return path


def _check(status: int, said: bytes) -> None:
    if said:
        raise NotExportable(**json.loads(said))
    if status < 0:
        raise Unavailable(f"the export was ended by signal {-status}", _REMEDY)
    if status:
        raise ModaError("the export failed; the service's log says why")
