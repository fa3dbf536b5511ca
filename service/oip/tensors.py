"""Output tensors as the protocol writes them: in JSON, or as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

__all__ = ["Numbers", "Texts"]


@dataclass(frozen=True)
class Numbers:
    """An FP32 tensor."""

    values: Float[Tensor, "..."]
    datatype: ClassVar = "FP32"

    @property
    def shape(self) -> list[int]:
        """Of the tensor."""
        return list(self.values.shape)

    def plain(self) -> list[float | None]:
        """Row-major; None for what is not finite, which JSON cannot hold."""
        flat = self.values.flatten()
        numbers: list[float | None] = flat.tolist()
        if bool(flat.isfinite().all()):
            return numbers
        return [one if finite else None for one, finite in zip(numbers, flat.isfinite().tolist(), strict=True)]

    def binary(self) -> bytes:
        """Row-major, little-endian."""
        return self.values.contiguous().numpy().astype("<f4").tobytes()


@dataclass(frozen=True)
class Texts:
    """A BYTES tensor of UTF-8 texts, row-major."""

    values: list[str]
    shape: list[int]
    datatype: ClassVar = "BYTES"

    def plain(self) -> list[str]:
        """The texts."""
        return self.values

    def binary(self) -> bytes:
        """Each behind its length in 4 bytes, little-endian."""
        encoded = [one.encode() for one in self.values]
        return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)
