"""What a name of the protocol stands for: one model by digest, and the version that it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from moda_core.errors import NotFound
from moda_core.storage.references import Reference, is_digest, parse_reference
from moda_core.storage.registry import Registry
from service.inference.servables import Servable, servable

__all__ = ["Target", "canonical_name", "composed_for", "find_target", "live_versions"]


@dataclass(frozen=True)
class Target:
    """A model that answers, settled: whatever is published or loaded meanwhile, it stays the same one.

    Attributes:
        version: the registry's number, as text; the model's digest where it was named by that or as a
            composition.
    """

    version: str
    meant: Servable


def canonical_name(name: str) -> str:
    """One spelling for each name: `digits` of `digits@latest`, `digits@3` of `digits@03`.

    Raises:
        InvalidInput: for what is no reference.
    """
    reference = parse_reference(name)
    if reference.digest is not None:
        return reference.digest
    selector = reference.alias or reference.version
    return f"{reference.name}" if selector is None else f"{reference.name}@{selector}"


def find_target(registry: Registry, name: str, version: str | None = None) -> Target:
    """What a reference or composition id means now, at one of its versions if one is given.

    Raises:
        InvalidInput: for what is no reference.
        NotFound: when nothing has this name, or not this version.
    """
    name = canonical_name(name)
    if version is None:
        return _target(registry, name)
    if _is_plain(parse_reference(name)) and _is_number(version):
        return _target(registry, f"{name}@{int(version)}")
    found = _target(registry, name)
    if found.version != version:
        raise NotFound("version", version, f"{name} is version {found.version}")
    return found


def composed_for(
    registry: Registry, target: Target, classes: Sequence[str] | None, threshold: str | int | float | None
) -> Target:
    """The target composed for some classes; itself for None.

    Raises:
        NotFound, Conflict, InvalidInput: as `servable`.
    """
    if classes is None and threshold is None:
        return target
    return replace(target, meant=servable(registry, target.meant.key, classes, threshold))


def live_versions(registry: Registry, name: str) -> list[str]:
    """The versions that a bare name has in the registry, ascending; none for any other reference."""
    if not _is_plain(parse_reference(name)):
        return []
    try:
        return [str(one.number) for one in registry.versions(canonical_name(name)) if not one.deleted]
    except NotFound:
        return []


def _target(registry: Registry, name: str) -> Target:
    if is_digest(name):
        meant = servable(registry, name)
        return Target(meant.model, meant)
    found = registry.resolve(name)
    return Target(str(found.version), servable(registry, found.digest))


def _is_plain(reference: Reference) -> bool:
    return reference.name is not None and reference.version is None and reference.alias is None


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdecimal() and len(version) < 19
