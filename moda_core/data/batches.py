"""Batches on the device: the images live there as bytes, and are augmented there, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from moda_core.data.dataset import Images
from moda_core.data.images import fit, mean_and_std, standardised
from moda_core.specs import InputSpec

__all__ = ["Batches", "augmented", "evaluation_batches"]

Batch = tuple[Float32[Tensor, "batch channels size size"], Int64[Tensor, "batch"]]


class Batches:
    """Shuffled, augmented training batches, new ones in every iteration.

    All random numbers of an epoch are drawn when its iteration begins, on the CPU, so that they are
    the same on every device and the generator ends in the same state however far an epoch got.
    A lone last image joins the batch before it: batch norm cannot learn from one.
    Of several processes with equal generators, each may make its own part of every batch.

    Args:
        images: of any size; fitted to `input_spec` once.
        generator: on the CPU; its state is all the state there is.
        crop_padding: black pixels around an image before a random crop of its own size.
        flip: mirror each image left to right with probability one half.
        device: where the images are kept and batches are made.
        share: which of the samples of a batch of so many to make; all of them by default.
        least: a last batch of fewer joins the one before.
    """

    def __init__(
        self,
        images: Images,
        input_spec: InputSpec,
        *,
        batch_size: int,
        generator: torch.Generator,
        crop_padding: int = 0,
        flip: bool = False,
        device: torch.device | str = "cpu",
        share: Callable[[int], slice] = slice,
        least: int = 2,
    ) -> None:
        self.pixels = fit(images.pixels, input_spec).to(device)
        self.labels = images.labels.to(device)
        self.mean, self.std = mean_and_std(input_spec, device)
        self.batch_size = batch_size
        self.generator = generator
        self.crop_padding = crop_padding
        self.flip = flip
        self.share, self.least = share, least

    def __len__(self) -> int:
        return len(self._ends())

    def __iter__(self) -> Iterator[Batch]:
        count, device = len(self.labels), self.labels.device
        order = torch.randperm(count, generator=self.generator).to(device)
        shifts = torch.randint(2 * self.crop_padding + 1, (count, 2), generator=self.generator).to(device)
        mirrored = (torch.rand(count, generator=self.generator) < (0.5 if self.flip else 0.0)).to(device)
        start = 0
        for end in self._ends():
            part = self.share(end - start)
            drawn = slice(start + (part.start or 0), start + part.stop)
            chosen = order[drawn]
            pixels = self.pixels[chosen]
            if self.crop_padding or self.flip:
                pixels = augmented(pixels, shifts[drawn], mirrored[drawn], self.crop_padding)
            yield standardised(pixels, self.mean, self.std), self.labels[chosen]
            start = end

    def _ends(self) -> list[int]:
        """Where each batch ends in the order of the epoch."""
        count = len(self.labels)
        ends = [*range(self.batch_size, count, self.batch_size), count]
        if len(ends) > 1 and ends[-1] - ends[-2] < min(self.least, self.batch_size):
            del ends[-2]
        return ends


def augmented(
    pixels: UInt8[Tensor, "batch channels height width"],
    shifts: Int64[Tensor, "batch 2"],
    mirrored: Bool[Tensor, "batch"],
    padding: int,
) -> UInt8[Tensor, "batch channels height width"]:
    """Each image padded with black, cropped at its (row, column) of `shifts`, mirrored where told.

    A shift of `padding` in both directions is the image itself.
    """
    height, width = pixels.shape[2:]
    rows, columns = (torch.arange(side, device=pixels.device) for side in (height, width))
    rows = shifts[:, :1] + rows
    columns = shifts[:, 1:] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    padded = functional.pad(pixels, (padding, padding, padding, padding))
    images = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    # channels last while gathering: one index per pixel moves all of its channels
    return padded.movedim(1, -1)[images, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def evaluation_batches(
    images: Images, input_spec: InputSpec, *, batch_size: int = 512, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """All images in their own order, as they are."""
    mean, std = mean_and_std(input_spec, device)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        pixels = fit(images.pixels[part].to(device), input_spec)
        yield standardised(pixels, mean, std), images.labels[part].to(device)
