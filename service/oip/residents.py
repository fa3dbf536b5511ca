"""Which model answers for each name that was loaded.

A name that was never loaded is served on demand, at its latest version. Loading settles it: the version
that is the latest then answers, and stays in memory, until the name is loaded again or unloaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from starlette.concurrency import run_in_threadpool

from moda_core.errors import ModaError, NotFound
from moda_core.storage.registry import Registry
from service.inference.engine import Engine
from service.inference.servables import servable
from service.oip.targets import Target

__all__ = ["Find", "Residents", "Settled"]

Find = Callable[[], Awaitable[Target]]
"""How to find what a name means now."""

_UNLOADED = "unloaded"

_logger = logging.getLogger(__name__)


class Settled(TypedDict):
    """What was decided of a name, as JSON: the version and key of what answers, or no longer does."""

    version: str
    key: str
    unloaded: bool


@dataclass(frozen=True)
class _Entry:
    """What became of a name's loads.

    Attributes:
        held: what answers for it.
        version: that the last load was for.
        failure: of that load; empty when it succeeded.
        settled: by the last load or unload that succeeded.
    """

    held: Target | None = None
    version: str = ""
    failure: str = ""
    settled: Settled | None = None

    @property
    def unloaded(self) -> bool:
        """Whether nothing may answer for it."""
        return self.settled is not None and self.settled["unloaded"]


class Residents:
    """The loaded names, for one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries: dict[str, _Entry] = {}
        self._loading = asyncio.Lock()

    def held(self, name: str) -> Target | None:
        """What a loaded name answers by; None for one that is served on demand.

        Raises:
            NotFound: for a name that was unloaded.
        """
        entry = self._entry(name)
        if entry.unloaded:
            raise NotFound("model", name, f"it was unloaded; POST /v2/repository/models/{name}/load brings it back")
        return entry.held

    async def load(self, name: str, find: Find) -> Target:
        """Let a name answer by what `find` gives, once that is in memory.

        Whatever fails, the name goes on answering as before.

        Raises:
            ModaError: of `find` or of the load.
        """
        async with self._loading:
            target = await find()
            try:
                await self._made_ready(target)
            except ModaError as error:
                before = self._entry(name)
                self._entries[name] = replace(before, version=target.version, failure=str(error))
                raise
            before = self._entry(name)
            self._entries[name] = _Entry(held=target, version=target.version, settled=_settled(target))
            if before.held is not None:
                self._release(before.held)
            return target

    async def unload(self, name: str, find: Find) -> None:
        """Let nothing answer for a name, and forget its model unless other names hold it.

        Args:
            name: which need not be loaded.
            find: what it means, where it is not.

        Raises:
            ModaError: of `find`.
        """
        async with self._loading:
            target = self._entry(name).held or await find()
            self._forget(name, _settled(target, unloaded=True), target)

    def settled(self, name: str) -> Settled | None:
        """What was decided of a name; None when nothing was. A load that failed decides nothing."""
        return self._entry(name).settled

    async def follow(self, decided: Mapping[str, Settled], registry: Registry) -> None:
        """Load and unload as other processes have, what is not so here.

        Raises:
            ModaError: of a load, after all that can be done is done.
        """
        failed: ModaError | None = None
        for name, of_it in decided.items():
            if of_it != self.settled(name):
                try:
                    await self._settle(name, of_it, registry)
                except ModaError as error:
                    _logger.warning("%s is not loaded in this process as in others: %s", name, error)
                    failed = error
        if failed is not None:
            raise failed

    async def _settle(self, name: str, decided: Settled, registry: Registry) -> None:
        async def find() -> Target:
            return Target(decided["version"], await run_in_threadpool(servable, registry, decided["key"]))

        if not decided["unloaded"]:
            await self.load(name, find)
            return
        async with self._loading:
            self._forget(name, decided, self._entry(name).held)

    def names(self) -> list[str]:
        """Every name that was loaded or unloaded, or that should have been."""
        return list(self._entries)

    def version(self, name: str) -> str:
        """The version that a name holds, else the one it was last loaded or unloaded at; empty for neither."""
        entry = self._entry(name)
        return entry.held.version if entry.held else entry.version

    def reason(self, name: str, version: str) -> str:
        """Why this version of a name cannot be asked; empty when it can."""
        entry = self._entry(name)
        failed = entry.failure if version == entry.version else ""
        return failed or (_UNLOADED if entry.unloaded else "")

    def _entry(self, name: str) -> _Entry:
        return self._entries.get(name, _Entry())

    def _forget(self, name: str, decided: Settled, target: Target | None) -> None:
        """Let nothing answer for a name, and drop its target unless other names hold it."""
        self._entries[name] = _Entry(version=decided["version"], settled=decided)
        if target is not None and self._release(target):
            self._engine.drop(target.meant)

    async def _made_ready(self, target: Target) -> None:
        # Pinned before it is made: so nothing can evict it in between.
        self._engine.pin(target.meant)
        try:
            await self._engine.ready(target.meant)
        except BaseException:
            self._release(target)
            raise

    def _release(self, target: Target) -> bool:
        """Unpin a target that no name holds any more; whether that is so."""
        if any(entry.held and entry.held.meant.key == target.meant.key for entry in self._entries.values()):
            return False
        self._engine.unpin(target.meant)
        return True


def _settled(target: Target, *, unloaded: bool = False) -> Settled:
    return Settled(version=target.version, key=target.meant.key, unloaded=unloaded)
