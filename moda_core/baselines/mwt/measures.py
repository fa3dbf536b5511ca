"""What MwT's modules keep and share: its own measures over kernels, and this project's over parameters.

MwT counts kernels: retention is the share of masked kernels that a module keeps. Kept parameters are
fewer, about the square of it. `parameter_measures` counts those as for every modular model: elements
of the plain network that the sliced one-class model holds, mask generators excluded on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from moda_core.baselines.mwt.composition import mwt_plan
from moda_core.baselines.mwt.modules import MaskedBatch, ModuleMasks
from moda_core.baselines.mwt.training import MwtModel
from moda_core.modularity.measures import ModuleMeasures, plan_measures
from moda_core.structure.slicing import Masks

__all__ = ["cohesion", "coupling", "jaccard", "kernel_retention", "parameter_measures"]

_ROWS_AT_ONCE = 1024


def kernel_retention(modules: ModuleMasks) -> dict[str, float]:
    """The share of all masked kernels that each class keeps; the stem is not counted."""
    return {label: float(_joined(masks).float().mean()) for label, masks in modules.masks.items()}


def coupling(modules: ModuleMasks) -> float:
    """The mean Jaccard similarity of two modules' kernels, over unordered pairs of classes; 0 without any."""
    rows = torch.stack([_joined(masks) for masks in modules.masks.values()])
    return jaccard(rows)


def cohesion(modules: ModuleMasks, passed: Iterable[MaskedBatch]) -> dict[str, float]:
    """How alike the masks of one class's images are within its module, for each class.

    The mean Jaccard similarity over unordered pairs of images of the open kernels that are in the module;
    a pair with none open counts as 0.

    Args:
        modules: at the threshold of interest.
        passed: from `open_masks`.
    """
    rows: dict[str, list[Tensor]] = {label: [] for label in modules.masks}
    kept = {label: _joined(masks) for label, masks in modules.masks.items()}
    labels = list(modules.masks)
    layers = list(modules.masks[labels[0]])  # their order is the modules', whatever the pass has
    for masks, numbers in passed:
        opened = torch.cat([masks[layer] for layer in layers], dim=1).cpu()
        for position in sorted(set(numbers.tolist())):
            label = labels[position]
            rows[label].append(opened[(numbers == position).cpu()] & kept[label])
    return {label: jaccard(torch.cat(parts)) for label, parts in rows.items() if parts}


def jaccard(sets: Bool[Tensor, "sets elements"]) -> float:
    """The mean over unordered pairs of common elements among those of either set, 0 for two empty sets; 0 without a pair."""
    numbers = sets.to(torch.float32)
    sizes = numbers.sum(dim=1)
    total, pairs = 0.0, len(sets) * (len(sets) - 1)
    for start in range(0, len(sets), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        shared = numbers[part] @ numbers.T
        similarity = _shares(shared, sizes[part, None] + sizes - shared)
        own = similarity.diagonal(offset=start)
        total += float(similarity.sum(dtype=torch.float64) - own.sum(dtype=torch.float64))
    return total / pairs if pairs else 0.0


def parameter_measures(model: MwtModel, modules: ModuleMasks, *, drop: bool = True) -> ModuleMeasures:
    """Sizes and overlaps of the modules in parameters of the sliced models, as `module_measures` counts them."""
    plans = {label: mwt_plan(model, modules, [label], drop=drop) for label in model.labels}
    return plan_measures(plans)


def _joined(masks: Masks) -> Bool[Tensor, "kernels"]:
    """All layers' kernels in one row."""
    return torch.cat(list(masks.values()))


def _shares(shared: Float32[Tensor, "rows sets"], joined: Float32[Tensor, "rows sets"]) -> Float32[Tensor, "rows sets"]:
    return shared / joined.clamp(min=1)
