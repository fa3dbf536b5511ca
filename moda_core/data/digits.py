"""scikit-learn's handwritten digits: 1,797 real images of 8x8 grey pixels that come inside a package."""

from __future__ import annotations

import torch

from moda_core.data.dataset import Dataset, Images, split

__all__ = ["load_digits"]

_BRIGHTEST = 16
_TEST_SHARE = 0.2


def load_digits(seed: int = 0) -> Dataset:
    """The digits, intensities 0 to 16 scaled to a byte; a seeded, stratified fifth of them is the test part."""
    from sklearn import datasets

    values, labels = datasets.load_digits(return_X_y=True)
    pixels = torch.from_numpy(values).reshape(-1, 1, 8, 8).mul(255 / _BRIGHTEST).round().to(torch.uint8)
    train, test = split(Images(pixels, torch.from_numpy(labels).to(torch.int64)), _TEST_SHARE, seed)
    return Dataset(tuple(str(digit) for digit in range(10)), train, test, mirror=False)
