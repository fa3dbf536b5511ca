"""Whether a file's tensors can be those of the model it describes: asked before they are loaded, and after.

Files come from anywhere. What passes here cannot make the rest of the program index out of range,
allocate more than its architecture needs, or compute with numbers that are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from moda_core.architectures import catalogue
from moda_core.errors import UnreadableFile
from moda_core.files import TensorInfo
from moda_core.specs import ArchitectureSpec
from moda_core.storage.descriptions import CountsDescription, Description, PatchedDescription, WeightsDescription
from moda_core.structure.unitgraph import unit_graph

__all__ = ["below", "check_counts_info", "check_counts_values", "check_info", "check_values"]

Infos = Mapping[str, TensorInfo]
Tensors = Mapping[str, Shaped[Tensor, "..."]]
_Form = tuple[torch.dtype, tuple[int, ...]]
_PARTS = ("counts/", "units/", "index/")


class _Unfit(Exception):  # noqa: N818 - it never leaves this module
    """What does not fit, in words."""


def below(prefix: str, values: Mapping[str, T]) -> dict[str, T]:
    """The entries under a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
