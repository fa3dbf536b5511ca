"""MwT's modules: which kernels a class has, by how often their masks are open for its images.

One pass in eval mode over the *augmented*, shuffled training images, as MwT does it, here under a seed.
Kernel k of layer l is in the module of class c iff its mask is above 0 for at least a share τ of the
class's images. A class that has no kernel in some layer lowers τ there by 0.05 until it has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import torch
from jaxtyping import Bool, Float32, Int32, Int64
from torch import Tensor

from moda_core.baselines.mwt.training import MwtModel, mwt_network
from moda_core.data.batches import Batches, evaluation_batches
from moda_core.data.dataset import Images
from moda_core.errors import Cancelled, Conflict, InvalidInput
from moda_core.structure.slicing import Masks
from moda_core.training.surroundings import full_float32, never

__all__ = [
    "THRESHOLD",
    "Augmentation",
    "MaskCounts",
    "MaskedBatch",
    "ModuleMasks",
    "count_masks",
    "module_masks",
    "open_masks",
]

THRESHOLD = Decimal("0.9")
_STEP = Decimal("0.05")

MaskedBatch = tuple[Mapping[str, Bool[Tensor, "_ _"]], Int64[Tensor, "_"]]
"""By layer, which masks are open [batch, kernels]; and the labels."""

_Drawn = Iterator[tuple[Float32[Tensor, "_ _ _ _"], Int64[Tensor, "_"]]]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the images of a pass are drawn: as in training, under a seed of its own."""

    crop_padding: int = 4
    flip: bool = False
    seed: int = 0


@dataclass(frozen=True)
class MaskCounts:
    """For how many images of each class each kernel's mask was open.

    Attributes:
        counts: by layer.
        labels: of the classes, in the order of the counts.
        samples: images of each class.
    """

    counts: Mapping[str, Int32[Tensor, "classes kernels"]]
    labels: tuple[str, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class ModuleMasks:
    """The kernels of each class.

    Attributes:
        masks: by label and layer.
        lowered: thresholds that were stepped down, by label and layer.
    """

    masks: Mapping[str, Masks]
    lowered: Mapping[str, Mapping[str, Decimal]]


def open_masks(
    model: MwtModel,
    images: Images,
    augmentation: Augmentation | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    cancelled: Callable[[], bool] = never,
) -> Iterator[MaskedBatch]:
    """Which masks are open (above 0), and the labels, a batch at a time.

    Without an augmentation the images are taken as they are, in their order.

    Raises:
        Cancelled: between batches, when `cancelled` says so.
    """
    network = mwt_network(model, device).masked(masks=True)
    for pixels, labels in _drawn(model, images, augmentation, batch_size, device):
        if cancelled():
            raise Cancelled("reading masks")
        with torch.inference_mode(), full_float32():
            _, masks = network(pixels)
        yield {layer: mask > 0 for layer, mask in masks.items()}, labels


def count_masks(
    model: MwtModel,
    images: Images,
    augmentation: Augmentation | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
    cancelled: Callable[[], bool] = never,
) -> MaskCounts:
    """Count open masks; arguments and errors are those of `open_masks`."""
    classes, totals = len(model.labels), dict[str, Tensor]()
    passed = open_masks(model, images, augmentation, device=device, batch_size=batch_size, cancelled=cancelled)
    for masks, labels in passed:
        for layer, mask in masks.items():
            total = totals.setdefault(layer, mask.new_zeros(classes, mask.shape[1], dtype=torch.int32))
            total.index_add_(0, labels, mask.to(torch.int32))
    return MaskCounts(
        counts={layer: total.cpu() for layer, total in totals.items()},
        labels=model.labels,
        samples=tuple(torch.bincount(images.labels, minlength=classes).tolist()),
    )


def module_masks(counts: MaskCounts, threshold: Decimal = THRESHOLD) -> ModuleMasks:
    """The kernels of each class at τ, in exact arithmetic.

    Raises:
        InvalidInput: for τ outside (0, 1], or a class without an image.
        Conflict: if a layer has no kernel that is open for 5 % of a class's images (for what is left of τ).
    """
    if not 0 < threshold <= 1:
        raise InvalidInput("threshold", str(threshold), "out of range", "give a number above 0 and at most 1")
    if 0 in counts.samples:
        label = counts.labels[counts.samples.index(0)]
        raise InvalidInput("counts", label, "a class without an image has no module", f"count images of {label!r}")
    masks: dict[str, Masks] = {}
    lowered: dict[str, dict[str, Decimal]] = {}
    for position, (label, samples) in enumerate(zip(counts.labels, counts.samples, strict=True)):
        used = {
            layer: _reached(count[position], samples, threshold, label, layer) for layer, count in counts.counts.items()
        }
        masks[label] = {
            layer: count[position] >= math.ceil(used[layer] * samples) for layer, count in counts.counts.items()
        }
        lowered[label] = {layer: tau for layer, tau in used.items() if tau != threshold}
    return ModuleMasks(masks, lowered)


def _reached(count: Int32[Tensor, "kernels"], samples: int, threshold: Decimal, label: str, layer: str) -> Decimal:
    """The highest of τ, τ - 0.05, ... above 0 that some kernel of a layer reaches for a class."""
    most = int(count.max())
    tau = threshold
    while tau > 0:
        if most >= math.ceil(tau * samples):
            return tau
        tau -= _STEP
    raise Conflict(
        f"class {label!r} opens no kernel of layer {layer} often enough at any threshold above 0 "
        f"(the most open one {most} times in {samples} images)",
        "train with a smaller weight of coupling, or longer",
    )


def _drawn(
    model: MwtModel, images: Images, augmentation: Augmentation | None, batch_size: int, device: torch.device | str
) -> _Drawn:
    if augmentation is None:
        return evaluation_batches(images, model.input, batch_size=batch_size, device=device)
    return iter(
        Batches(
            images,
            model.input,
            batch_size=batch_size,
            generator=torch.Generator().manual_seed(augmentation.seed),
            crop_padding=augmentation.crop_padding,
            flip=augmentation.flip,
            device=device,
        )
    )
