"""Whether a subset is worth a model of its own, or is answered with others in a mixed batch.

A forward pass of n images takes about a + c·n: `a` whatever n is, `c` per image. A composed model has
the same number of calls and only a share r of the operations, so that it takes about a + r·c·n.
Mixed, a subset's images share the fixed part with the rest of the batch and pay c(1 + m) each, m being
what the masks cost; on their own they pay r·c each and the fixed part alone. The lines cross at
a / (c(1 + m - r)) images in a batch: subsets with fewer are cheaper mixed, forever; those with more
are cheaper on their own, once what they save is more than it takes to compose them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from moda_core.errors import InvalidInput

__all__ = ["MASKING", "ForwardLine", "ForwardTimes", "Traffic", "crossing_images", "pays", "saving_ms"]

MASKING = 0.01
"""What masks add to a forward pass, as a share of it, unless it was measured (see `benchmarks.tenants`)."""

_NEWEST = 0.1


@dataclass(frozen=True)
class ForwardLine:
    """What a forward pass takes: `fixed_ms` for any batch, and `image_ms` for each of its images."""

    fixed_ms: int | float
    image_ms: int | float

    def turn_ms(self, images: int | float, share: int | float = 1.0) -> float:
        """A turn of the device with so many images in the mean, each taking a `share` of the whole model's operations.

        A mean below one image means that some turns have none and do not run.
        """
        return self.fixed_ms * min(1.0, images) + share * self.image_ms * images


@dataclass(frozen=True)
class ForwardTimes:
    """What forward passes of a whole model took, learned while it serves.

    Attributes:
        means: running means of images and milliseconds, of the batches nearest to each power of two.
    """

    means: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def observed(self, images: int, ms: int | float) -> ForwardTimes:
        """With one more forward pass; what is old is forgotten, a tenth at a time.

        Raises:
            InvalidInput: for a batch without images, or a time that is none.
        """
        if images < 1 or not 0 <= ms < math.inf:
            raise InvalidInput("forward", (images, ms), "no forward pass", "give at least one image and a time in ms")
        size = 2 ** round(math.log2(images))
        mean_images, mean_ms = self.means.get(size, (float(images), float(ms)))
        mean = mean_images + _NEWEST * (images - mean_images), mean_ms + _NEWEST * (ms - mean_ms)
        return ForwardTimes({**self.means, size: mean})

    def line(self) -> ForwardLine | None:
        """The line nearest to the times per image, all sizes weighing alike; None until two sizes were seen.

        Neither of its parts is negative: times that grow faster than the batch are all per image, and
        times that do not grow with it are all fixed.
        """
        if len(self.means) < 2:
            return None
        points = [(1 / images, ms / images) for images, ms in self.means.values()]
        mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
        fixed = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
        if fixed <= 0:
            return ForwardLine(0.0, mean_y)
        if mean_y <= fixed * mean_x:
            return ForwardLine(sum(ms for _, ms in self.means.values()) / len(points), 0.0)
        return ForwardLine(fixed, mean_y - fixed * mean_x)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What was asked of one root lately, all its subsets together, and how much of it one subset was.

    Attributes:
        images: of the root in the window that is looked at; as many are expected in the next.
        share: of the subset among them, from 0 to 1.
        batch: mean images per turn of the device, if all are answered in the same turn; at least 1.
    """

    images: int | float
    share: int | float
    batch: int | float

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InvalidInput: if one is left.
        """
        if not 0 <= self.images < math.inf:
            raise InvalidInput("images", self.images, "negative or infinite", "give a count")
        if not 0 <= self.share <= 1:
            raise InvalidInput("share", self.share, "not from 0 to 1", "give a part of all images")
        if not 1 <= self.batch < math.inf:
            raise InvalidInput("batch", self.batch, "less than one image per turn", "give a mean of turns that ran")


def saving_ms(line: ForwardLine, traffic: Traffic, flops_ratio: int | float, masking: int | float = MASKING) -> float:
    """Device time per window that a model of its own saves, before what composing it takes; may be negative.

    Args:
        line: of the whole model's forward passes.
        traffic: of the root and the subset.
        flops_ratio: operations of the composed model, as a share of the whole one's.
        masking: what masks add to a forward pass, as a share of it.
    """
    own = traffic.share * traffic.batch
    mixed = (1 + masking) * (line.turn_ms(traffic.batch) - line.turn_ms(traffic.batch - own))
    return traffic.images / traffic.batch * (mixed - line.turn_ms(own, flops_ratio))


def pays(
    line: ForwardLine,
    traffic: Traffic,
    flops_ratio: int | float,
    compose_ms: int | float,
    *,
    at_hand: bool = False,
    masking: int | float = MASKING,
) -> bool:
    """Whether a subset is better answered by a model of its own.

    One that is at hand has been paid for: it stays in use as long as it saves anything.

    Args:
        line: of the whole model's forward passes.
        traffic: of the root and the subset.
        flops_ratio: operations of the composed model, as a share of the whole one's.
        compose_ms: from counts and weights to a model that is ready, in device time or what stands still for it.
        at_hand: whether it has been composed and is still kept.
        masking: what masks add to a forward pass, as a share of it.
    """
    return saving_ms(line, traffic, flops_ratio, masking) > (0.0 if at_hand else compose_ms)


def crossing_images(line: ForwardLine, flops_ratio: int | float, masking: int | float = MASKING) -> float:
    """Images of one subset in a larger batch from which its own model takes less time; infinite if it never does."""
    gained = line.image_ms * (1 + masking - flops_ratio)
    return line.fixed_ms / gained if gained > 0 else math.inf
