"""Index moves of an executable: selected channels, spread among zeros where there are gaps."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from moda_core.structure.steps import Move

__all__ = ["Selection", "joined", "sources_of"]

_WIDEST_PRODUCT = 256


class Selection(nn.Module):
    """Output channel i is input channel ``sources[i]``, or zero where that is -1.

    Images with channels last are multiplied by a 1x1 kernel of zeros and ones, which, up to some hundred
    channels, is several times faster than moving every pixel's channels one by one. The product is exact
    for finite values, and on CUDA where TF32 is off (`full_float32`): zero times an infinity is not a number, so
    that one in any channel spreads to all channels of its pixel.

    Args:
        sources: one per output channel.
        given: how many channels the input has.
        axis: of the channels.
        like: whose type and device the kernel has.
    """

    kernel: Tensor | None
    take: Tensor
    put: Tensor | None

    def __init__(self, sources: Int64[Tensor, "width"], given: int, axis: int, like: Tensor) -> None:
        super().__init__()
        self.width, self.axis = len(sources), axis
        places = torch.nonzero(sources >= 0)[:, 0]
        whole = len(places) == self.width
        self.register_buffer("take", sources[places].to(like.device), persistent=False)
        self.register_buffer("put", None if whole else places.to(like.device), persistent=False)
        narrow = axis == 1 and given <= _WIDEST_PRODUCT
        self.register_buffer("kernel", _kernel(sources, given, like) if narrow else None, persistent=False)
        self.eval()

    def forward(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The channels in their new places."""
        if self.kernel is not None and value.dim() == 4:
            return functional.conv2d(value, self.kernel)
        taken = value.index_select(self.axis, self.take)
        if self.put is None:
            return taken
        shape = list(value.shape)
        shape[self.axis] = self.width
        return value.new_zeros(shape).index_copy(self.axis, self.put, taken)


def sources_of(move: Move) -> Int64[Tensor, "width"]:
    """What a step of a sliced model does, as a selection's sources."""
    taken = torch.arange(move.given) if move.take is None else move.take.cpu()
    if move.put is None:
        return taken
    sources = torch.full((move.width,), -1)
    sources[move.put.cpu()] = taken
    return sources


def joined(first: Int64[Tensor, "between"], second: Int64[Tensor, "width"]) -> Int64[Tensor, "width"]:
    """The sources of one selection for two, one after the other."""
    return torch.where(second >= 0, first[second.clamp(min=0)], -1)


def _kernel(sources: Int64[Tensor, "width"], given: int, like: Tensor) -> Float[Tensor, "width given 1 1"]:
    kernel = torch.zeros(len(sources), given, 1, 1, dtype=like.dtype)
    places = torch.nonzero(sources >= 0)[:, 0]
    kernel[places, sources[places]] = 1
    return kernel.to(like.device, memory_format=torch.channels_last)
