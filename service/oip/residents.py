"""Which model answers for each name that was loaded.

A name that was never loaded is served on demand, at its latest version. Loading settles it: the version
that is the latest then answers, and stays in memory, until the name is loaded again or unloaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
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
        unloaded: what answered for it until it was unloaded; nothing may since.
        version: that the last load was for.
        failure: of that load; empty when it succeeded.
    """

    held: Target | None = None
    unloaded: Target | None = None
    version: str = ""
    failure: str = ""


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
        entry = self._entries.get(name, _Entry())
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
                before = self._entries.get(name, _Entry())
                self._entries[name] = replace(before, version=target.version, failure=str(error))
                raise
            before = self._entries.get(name, _Entry())
            self._entries[name] = _Entry(held=target, version=target.version)
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
            held = self._entries.get(name, _Entry()).held
            target = held or await find()
            self._entries[name] = _Entry(unloaded=target, version=target.version)
            if self._release(target):
                self._engine.drop(target.meant)

    def settled(self) -> dict[str, Settled]:
        """What was decided of every name of which anything was; loads that failed decided nothing."""
        decided = {name: (entry.held or entry.unloaded, entry.held is None) for name, entry in self._entries.items()}
        return {
            name: Settled(version=target.version, key=target.meant.key, unloaded=unloaded)
            for name, (target, unloaded) in decided.items()
            if target is not None
        }

    async def settle(self, name: str, decided: Settled, registry: Registry) -> None:
        """Load or unload a name as another process has.

        Raises:
            ModaError: of the load.
        """

        async def find() -> Target:
            return Target(decided["version"], await run_in_threadpool(servable, registry, decided["key"]))

        await (self.unload(name, find) if decided["unloaded"] else self.load(name, find))

    async def settle_all(self, decided: Mapping[str, Settled], registry: Registry) -> None:
        """Load and unload names as other processes have; one that cannot be loaded any more is served on demand."""
        for name, of_it in decided.items():
            with suppress(ModaError):
                await self.settle(name, of_it, registry)

    def names(self) -> list[str]:
        """Every name that was loaded or unloaded, or that should have been."""
        return list(self._entries)

    def version(self, name: str) -> str:
        """The version that a name holds, else the one it was last loaded or unloaded at; empty for neither."""
        entry = self._entries.get(name, _Entry())
        return entry.held.version if entry.held else entry.version

    def reason(self, name: str, version: str) -> str:
        """Why this version of a name cannot be asked; empty when it can."""
        entry = self._entries.get(name, _Entry())
        failed = entry.failure if version == entry.version else ""
        return failed or (_UNLOADED if entry.unloaded else "")

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
