"""Named versions, tombstones and aliases, each a small record that is written once.

    models/digits/versions/000003.json         names a manifest: the moment a version appears
    models/digits/tombstones/000003.json       it is deleted; its number is never used again
    models/digits/aliases/prod/000007.json     the seventh thing that `prod` meant; the highest holds

Every number is taken by a put-if-absent one above all that were seen, so two processes cannot take
the same one, and whoever loses looks again at everything before trying the next.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from moda_core.errors import NotFound, PreconditionFailed
from moda_core.storage.manifests import JSON
from moda_core.storage.references import Reference, check_alias, check_stored_name
from moda_core.storage.registry.objects import Objects
from moda_core.storage.registry.records import create_record, read_record

__all__ = ["Alias", "NamedVersions", "Version"]

_RECORD = re.compile(r"(versions|tombstones|aliases/(?P<alias>[^/]+))/(?P<number>[0-9]{6,})\.json")


@dataclass(frozen=True)
class Version:
    """One published version of a name.

    Attributes:
        digest: of the manifest.
        job_id: the job that published it; None for an upload.
        created_at: UTC, ISO 8601.
    """

    name: str
    number: int
    digest: str
    job_id: str | None
    created_at: str
    deleted: bool


@dataclass(frozen=True)
class Alias:
    """What an alias means now; `number` counts its changes and is the token for compare-and-set."""

    name: str
    alias: str
    number: int
    version: int
    digest: str
    created_at: str


@dataclass(frozen=True)
class _Shelf:
    """The numbers of all records of one name, ascending."""

    versions: list[int]
    tombstones: set[int]
    aliases: dict[str, list[int]]

    @property
    def live(self) -> list[int]:
        return [number for number in self.versions if number not in self.tombstones]


class NamedVersions:
    """The names of one kind of thing, ``models`` or ``datasets``."""

    def __init__(self, objects: Objects, kind: Literal["model", "dataset"]) -> None:
        self._objects = objects
        self._kind = kind
        self._records: dict[str, JSON] = {}

    def publish(self, name: str, digest: str, job_id: str | None = None) -> int:
        """Give a manifest the next version number of a name.

        The same digest for the same job keeps the number it has, also when two workers race to finish
        that job: the one that loses a number finds the other's record below its next try.
        """
        check_stored_name("name", name)
        while True:
            numbers = self._shelf(name).versions
            if job_id is not None:
                for number in numbers:
                    record = self._version(name, number)
                    if (record["job_id"], record["digest"]) == (job_id, digest):
                        return number
            number = numbers[-1] + 1 if numbers else 1
            record = {"digest": digest, "job_id": job_id, "created_at": _now()}
            if create_record(self._objects, f"{self._folder(name)}/versions/{number:06d}.json", record):
                return number

    def all_names(self) -> list[str]:
        """Every name that ever had a version."""
        return self._objects.folders(f"{self._kind}s")

    def names(self) -> list[str]:
        """Every name that has a live version."""
        return [name for name in self.all_names() if self._shelf(name).live]

    def latest(self) -> list[Version]:
        """The highest live version of every name, by name; one that vanishes meanwhile is passed over."""
        found = []
        for name in self.all_names():
            live = self._shelf(name).live
            with suppress(NotFound):
                found += [self._read(name, number) for number in live[-1:]]
        return found

    def versions(self, name: str) -> list[Version]:
        """All versions of a name, ascending, deleted ones among them; none for an unknown name."""
        shelf = self._shelf(name)
        return [self._read(name, number, deleted=number in shelf.tombstones) for number in shelf.versions]

    def find(self, reference: Reference) -> Version:
        """The live version that a reference names; by digest, the newest one that has it.

        Raises:
            NotFound: without one.
        """
        if reference.digest is not None:
            return self._holding(reference.digest)
        name = str(reference.name)
        shelf = self._shelf(name)
        if not shelf.live:
            raise NotFound(self._kind, name, self._known())
        number = shelf.live[-1] if reference.version is None else reference.version
        if reference.alias is not None:
            number = self.alias(name, reference.alias).version
        if number not in shelf.live:
            text = f"{name}@{reference.alias or number}"
            remedy = f"live versions are {', '.join(map(str, shelf.live))}"
            raise NotFound(self._kind, text, f"version {number} was deleted or never published; {remedy}")
        return self._read(name, number)

    def stamp(self, reference: Reference) -> object:
        """A value that stays equal while a reference means the same; a second at most, for a store elsewhere."""
        if reference.digest is not None:
            return None
        folder = self._folder(str(reference.name))
        aliases = [] if reference.alias is None else [f"{folder}/aliases/{reference.alias}"]
        return self._objects.stamp(f"{folder}/versions", f"{folder}/tombstones", *aliases)

    def holding(self, digest: str) -> list[Version]:
        """Every live version of any name that has this manifest."""
        versions = [version for name in self.all_names() for version in self.versions(name)]
        return [version for version in versions if version.digest == digest and not version.deleted]

    def _holding(self, digest: str) -> Version:
        found = self.holding(digest)
        if not found:
            raise NotFound(self._kind, digest, "no live version has this digest")
        return max(found, key=lambda version: (version.created_at, version.number))

    def delete(self, reference: Reference) -> list[Version]:
        """Delete the version that a reference names (by digest: every version that has it).

        Manifest and blobs stay, because others may share them. Returns what was deleted.

        Raises:
            NotFound: when there is no such live version.
        """
        found = self.find(reference)
        doomed = [found] if reference.digest is None else self.holding(reference.digest)
        for version in doomed:
            key = f"{self._folder(version.name)}/tombstones/{version.number:06d}.json"
            create_record(self._objects, key, {"created_at": _now()})
        return doomed

    def set_alias(self, name: str, alias: str, version: int, *, expected: int | None = None) -> Alias:
        """Let an alias mean a live version.

        Args:
            name: whose alias.
            alias: what it is called.
            version: what it shall mean.
            expected: the alias's `number` as the caller last saw it, 0 for none yet; None does not ask.

        Raises:
            NotFound: without such a live version.
            PreconditionFailed: when the alias has changed since.
        """
        check_alias(alias)
        digest = self.find(Reference(name=name, version=version)).digest
        while True:
            numbers = self._shelf(name).aliases.get(alias, [])
            current = numbers[-1] if numbers else 0
            if expected is not None and expected != current:
                problem = f"alias {name}@{alias} is at change {current}, not {expected}"
                raise PreconditionFailed(problem, "read it again and decide anew")
            record: JSON = {"version": version, "digest": digest, "created_at": _now()}
            if create_record(self._objects, f"{self._folder(name)}/aliases/{alias}/{current + 1:06d}.json", record):
                return Alias(name=name, alias=alias, number=current + 1, **record)

    def alias(self, name: str, alias: str) -> Alias:
        """What an alias means now.

        Raises:
            NotFound: for an alias that was never set.
        """
        held = self._shelf(name).aliases
        if alias not in held:
            known = ", ".join(sorted(held)) or "none"
            raise NotFound("alias", f"{name}@{alias}", f"aliases of {name} are: {known}")
        return self._alias(name, alias, held[alias][-1])

    def aliases(self, name: str) -> list[Alias]:
        """All aliases of a name, as they are now."""
        held = sorted(self._shelf(name).aliases.items())
        return [self._alias(name, alias, numbers[-1]) for alias, numbers in held]

    def alias_history(self, name: str, alias: str) -> list[Alias]:
        """Everything an alias has meant, oldest first."""
        return [self._alias(name, alias, number) for number in self._shelf(name).aliases.get(alias, [])]

    def _alias(self, name: str, alias: str, number: int) -> Alias:
        key = f"{self._folder(name)}/aliases/{alias}/{number:06d}.json"
        return Alias(name=name, alias=alias, number=number, **self._record(key, {"version", "digest", "created_at"}))

    def _folder(self, name: str) -> str:
        return f"{self._kind}s/{name}"

    def _shelf(self, name: str) -> _Shelf:
        folder = self._folder(name)
        shelf = _Shelf([], set(), {})
        for key in self._objects.keys(folder):
            match = _RECORD.fullmatch(key.removeprefix(f"{folder}/"))
            if match is None:
                continue
            number = int(match["number"])
            if match["alias"]:
                shelf.aliases.setdefault(match["alias"], []).append(number)
            elif match[1] == "tombstones":
                shelf.tombstones.add(number)
            else:
                shelf.versions.append(number)
        for numbers in (shelf.versions, *shelf.aliases.values()):
            numbers.sort()
        return shelf

    def _known(self) -> str:
        return f"{self._kind}s are: {', '.join(self.names()) or 'none yet'}"

    def _read(self, name: str, number: int, *, deleted: bool = False) -> Version:
        return Version(name=name, number=number, deleted=deleted, **self._version(name, number))

    def _version(self, name: str, number: int) -> JSON:
        return self._record(f"{self._folder(name)}/versions/{number:06d}.json", {"digest", "job_id", "created_at"})

    def _record(self, key: str, fields: set[str]) -> JSON:
        """A record by its key, kept in memory: records never change."""
        if key not in self._records:
            self._records[key] = read_record(self._objects, key, fields)
        return self._records[key]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
