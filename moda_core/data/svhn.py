"""Street View House Numbers, cropped digits: ``train_32x32.mat`` and ``test_32x32.mat``."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from moda_core.data.dataset import Dataset, Images
from moda_core.data.downloads import Download
from moda_core.errors import UnreadableFile

__all__ = ["DOWNLOADS", "load_svhn"]

_ADDRESS = "http://ufldl.stanford.edu/housenumbers/"
_TRAIN, _TEST = "train_32x32.mat", "test_32x32.mat"
DOWNLOADS = (
    Download(_TRAIN, _ADDRESS + _TRAIN, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
    Download(_TEST, _ADDRESS + _TEST, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
)
_ZERO = 10  # the label that the files give the digit 0

# What scipy's reader raises on files that are broken or of another kind.
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    NotImplementedError,
    OverflowError,
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)


def load_svhn(path: Path) -> Dataset:
    """The data set from the folder that holds its two files; digits are not mirrored.

    Raises:
        UnreadableFile: for a missing or broken file, or arrays of other shapes.
        InvalidInput: for labels that make no data set.
    """
    return Dataset(
        tuple(str(digit) for digit in range(10)), _images(path / _TRAIN), _images(path / _TEST), mirror=False
    )


def _images(path: Path) -> Images:
    """``X`` is uint8 [row, column, channel, image], ``y`` the label of each image."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise UnreadableFile("source", str(path), "there is no such file", f"get it from {_ADDRESS}")
    try:
        content = loadmat(path, variable_names=("X", "y"))
        pixels, labels = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
    except (*_BROKEN, MatReadError) as error:
        raise UnreadableFile("source", path.name, f"not a readable .mat file: {error}", "get it again") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2] != 3 or labels.dtype.kind not in "iuf":
        raise UnreadableFile(
            "source",
            path.name,
            f"X is {pixels.dtype} {list(pixels.shape)}, y is {labels.dtype}",
            "give the files of cropped digits (format 2)",
        )
    indices = labels.astype(np.int64)
    indices[indices == _ZERO] = 0
    return Images(torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()), torch.from_numpy(indices))
