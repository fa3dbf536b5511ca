"""What a request means by a model: a stored one, or a composition of one, both by digest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from starlette.concurrency import run_in_threadpool

from moda_core.errors import Conflict, InvalidInput, NotFound
from moda_core.specs import check_labels, parse_threshold
from moda_core.storage.manifests import Composition, Manifest
from moda_core.storage.references import is_digest
from moda_core.storage.registry import Registry

__all__ = ["Servable", "Servables", "composition_servable", "servable"]

_Threshold = str | int | float | None


@dataclass(frozen=True)
class Servable:
    """A model that can predict, named so that it never changes.

    Attributes:
        model: digest of the stored model.
        recipe: of its composition, if one is meant.
        labels: in the order of the logits.
        classes: the same labels, in the order in which the caller wants them.
    """

    model: str
    recipe: Composition | None
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        """The composition's id, else the model's digest."""
        return self.recipe.id if self.recipe else self.model

    @cached_property
    def mixed_key(self) -> str:
        """Of the whole model that answers for many of its compositions at a time."""
        return f"{self.model} mixed"

    def columns(self, labels: Sequence[str]) -> tuple[int, ...] | None:
        """Where the caller's classes stand among the labels of some columns; None where the order is the same."""
        columns = tuple(labels)
        return self._order if columns == self.labels else _places(columns, self.classes)

    @cached_property
    def _order(self) -> tuple[int, ...] | None:
        return _places(self.labels, self.classes)


def _places(labels: tuple[str, ...], classes: tuple[str, ...]) -> tuple[int, ...] | None:
    if labels == classes:
        return None
    places = {label: place for place, label in enumerate(labels)}
    return tuple(places[label] for label in classes)


class Servables:
    """What requests have meant before, for as long as it still holds.

    Args:
        most: requests remembered.
        most_labels: that they have together, which is what memory goes to.
    """

    def __init__(self, registry: Registry, most: int = 16_384, most_labels: int = 1_000_000) -> None:
        self._registry, self._most, self._most_labels = registry, most, most_labels
        self._known: OrderedDict[tuple[object, ...], tuple[object, Servable]] = OrderedDict()
        self._labels = 0
        self._stamps: dict[str, object] = {}

    async def find(
        self, reference: str, classes: Sequence[str] | None = None, threshold: _Threshold = None
    ) -> Servable:
        """As `servable`, without reading anything for what was asked before and has not changed.

        Raises:
            NotFound, Conflict, InvalidInput: as `servable` does.
        """
        key = reference, None if classes is None else tuple(classes), threshold
        stamp = self._stamp(reference)
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            self._known.move_to_end(key)
            return known[1]
        found = await run_in_threadpool(servable, self._registry, reference, classes, threshold)
        self._remember(key, stamp, found)
        return found

    def _stamp(self, reference: str) -> object:
        """The registry's, asked once for all that a turn of the event loop has read from its sockets."""
        if reference not in self._stamps:
            if not self._stamps:
                asyncio.get_running_loop().call_soon(self._stamps.clear)
            self._stamps[reference] = self._registry.stamp(reference)
        return self._stamps[reference]

    def _remember(self, key: tuple[object, ...], stamp: object, found: Servable) -> None:
        if key in self._known:
            self._labels -= len(self._known.pop(key)[1].classes)
        self._known[key] = stamp, found
        self._labels += len(found.classes)
        while len(self._known) > self._most or self._labels > self._most_labels:
            self._labels -= len(self._known.popitem(last=False)[1][1].classes)


def servable(
    registry: Registry, reference: str, classes: Sequence[str] | None = None, threshold: _Threshold = None
) -> Servable:
    """Resolve a reference or composition id, composed for `classes` when these are given.

    Raises:
        NotFound: for an unknown model, version, alias, composition or class.
        Conflict: for a model that cannot be composed, or not at this threshold.
        InvalidInput: for no classes, one named twice, or a number that is no threshold.
    """
    wanted = check_labels("classes", classes) if classes is not None else None
    asked = None if threshold is None else parse_threshold(threshold)
    if wanted is None and asked is not None:
        raise InvalidInput("threshold", threshold, "a threshold without classes", "name the classes to compose for")
    stored = _stored_composition(registry, reference)
    digest = stored.model if stored else registry.resolve(reference).digest
    manifest = registry.manifest(digest)
    if wanted is None:
        return _composed(digest, manifest, stored, None) if stored else _whole(digest, manifest)
    return _composed(digest, manifest, _recipe(digest, manifest, stored, wanted, asked), wanted)


def composition_servable(registry: Registry, composition_id: str) -> Servable:
    """The servable of a stored composition.

    Raises:
        NotFound: for an id under which nothing was composed.
    """
    recipe = _stored_composition(registry, composition_id)
    if recipe is None:
        raise NotFound("composition", composition_id, "GET /compositions lists them; POST /compose makes one")
    return _composed(recipe.model, registry.manifest(recipe.model), recipe, None)


def _stored_composition(registry: Registry, reference: str) -> Composition | None:
    if not is_digest(reference):
        return None
    try:
        return registry.composition(reference)
    except NotFound:
        return None


def _whole(digest: str, manifest: Manifest) -> Servable:
    return Servable(digest, None, manifest.labels, manifest.labels)


def _composed(digest: str, manifest: Manifest, recipe: Composition, wanted: tuple[str, ...] | None) -> Servable:
    labels = tuple(label for label in manifest.labels if label in recipe.labels)
    return Servable(digest, recipe, labels, wanted or labels)


def _recipe(
    digest: str, manifest: Manifest, stored: Composition | None, wanted: tuple[str, ...], asked: Decimal | None
) -> Composition:
    """The recipe for `wanted` at τ; `stored` is the composition that is to be composed again, if one is."""
    if manifest.kind not in {"modular", "composed"} or manifest.threshold is None:
        remedies = {
            "trained": "decompose it first, and compose the modular version",
            "patched": "compose the models that it was patched from",
        }
        raise Conflict(f"a {manifest.kind} model cannot be composed", remedies.get(manifest.kind, "decompose it first"))
    available = stored.labels if stored else manifest.labels
    for label in wanted:
        if label not in available:
            raise NotFound("class", label, f"this model has {', '.join(available[:20])}")
    own = stored.threshold if stored else manifest.threshold
    threshold = own if asked is None else asked
    if threshold < own and (stored or manifest.kind == "composed"):
        problem = f"this model was composed at threshold {own:f} and cannot be composed at {threshold:f}"
        raise Conflict(problem, "compose the model that it was cut from, or ask for a higher threshold")
    return Composition(digest, wanted, threshold)
