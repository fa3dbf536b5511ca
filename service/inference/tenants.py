"""Which compositions get a model of their own, and which share the whole model's batches, each sample under its mask.

A composition that `POST /compose` made has a model of its own for as long as the cache keeps it. One that is only
predicted with begins among the others, with nothing composed in its way, and gets its own, made beside the traffic,
when that saves more of the device's time than it takes to compose (`moda_core.inference.crossing`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from moda_core.inference.crossing import ForwardLine, ForwardTimes, Traffic, pays

__all__ = ["Tenants"]

WINDOW = 1024
"""Requests of one root that are looked at; as many are expected to come like them."""

LOOK_EVERY = 16
"""Requests for a subset between two looks at whether its own model would pay."""

_MOST_ROOTS = 64
_FIXED = 0.5
"""Of a forward pass, the part that is thought to be fixed while batches of one size only were seen."""


@dataclass
class _Root:
    """What was asked of one root lately, and what its forward passes took."""

    recent: deque[tuple[str, int]] = field(default_factory=deque)
    requests: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    all_images: int = 0
    made: Counter[str] = field(default_factory=Counter)
    times: ForwardTimes = field(default_factory=ForwardTimes)
    images_per_turn: float = 1.0

    def count(self, key: str, images: int) -> int:
        """Count a request; how many of the window's are for the same subset."""
        self._add(key, 1, images)
        self.recent.append((key, images))
        if len(self.recent) > WINDOW:
            oldest, its_images = self.recent.popleft()
            self._add(oldest, -1, -its_images)
        return self.requests[key]

    def _add(self, key: str, requests: int, images: int) -> None:
        self.all_images += images
        self.images[key] += images
        self.requests[key] += requests
        if not self.requests[key]:
            del self.requests[key], self.images[key]

    def line(self) -> ForwardLine | None:
        """What forward passes take; None before the first."""
        if (line := self.times.line()) is not None or not self.times.means:
            return line
        [(images, ms)] = self.times.means.values()
        return ForwardLine(_FIXED * ms, (1 - _FIXED) * ms / images)


class Tenants:
    """Watches the traffic of each root's compositions, and decides by it. For one event loop."""

    def __init__(self) -> None:
        self._roots: OrderedDict[str, _Root] = OrderedDict()

    def asked(self, root: str, key: str, images: int) -> bool:
        """Count a request for a composition; whether it is time to look if its own model would pay."""
        return self._root(root).count(key, images) % LOOK_EVERY == 0

    def made(self, root: str, key: str) -> None:
        """A composition got its own model; should it be evicted, the next one must pay for both."""
        known = self._root(root)
        known.made[key] += 1
        if len(known.made) > WINDOW:
            known.made.clear()

    def ran(self, root: str, images: int, seconds: float) -> None:
        """A batch of many subsets of a root has run."""
        known = self._root(root)
        known.times = known.times.observed(images, 1e3 * seconds)
        known.images_per_turn += 0.1 * (images - known.images_per_turn)

    def would_pay(self, root: str, key: str, flops_ratio: float, compose_ms: float) -> bool:
        """Whether a composition should have a model of its own.

        Args:
            root: digest of the model.
            key: of the composition.
            flops_ratio: operations of the composed model as a share of the whole one's.
            compose_ms: what composing takes.
        """
        known = self._root(root)
        line = known.line()
        if line is None or not known.all_images:
            return False
        traffic = Traffic(
            images=known.all_images,
            share=known.images[key] / known.all_images,
            batch=max(1.0, known.images_per_turn),
        )
        return pays(line, traffic, flops_ratio, compose_ms * (1 + known.made[key]))

    def _root(self, digest: str) -> _Root:
        known = self._roots.setdefault(digest, _Root())
        self._roots.move_to_end(digest)
        if len(self._roots) > _MOST_ROOTS:
            self._roots.popitem(last=False)
        return known
