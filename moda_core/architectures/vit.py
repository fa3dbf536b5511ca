"""A small vision transformer (after Dosovitskiy et al., 2021): two pre-norm blocks, attention written out.

torch's fused attention hides its heads inside one call. Here each head's output is a slice of a value
that tracing sees, so heads are units like any other.
"""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moda_core.architectures.widths import scaled

__all__ = ["VisionTransformer"]

_BLOCKS = 2
_HEADS = 8
_HEAD_WIDTH = 16
_EXPANSION = 4


class VisionTransformer(nn.Module):
    """Eight heads of 16 and an MLP of 4 x 128 per block: 412,554 parameters at 10 classes, 32x32 RGB.

    `width` multiplies the heads, and with them the width of the stream. Patches are 4x4, and 2x2 of
    images below 32 pixels; their mean is classified.
    """

    def __init__(self, *, classes: int, channels: int, image_size: int, width: float) -> None:
        super().__init__()
        heads = scaled(_HEADS, width)
        patch, embedding = 4 if image_size >= 32 else 2, heads * _HEAD_WIDTH
        self.patches = nn.Conv2d(channels, embedding, patch, stride=patch)
        self.position = nn.Parameter(torch.randn(1, (image_size // patch) ** 2, embedding) * 0.02)
        self.blocks = nn.Sequential(*(_Block(embedding, heads) for _ in range(_BLOCKS)))
        self.norm = nn.LayerNorm(embedding)
        self.head = nn.Linear(embedding, classes)

    @no_type_check
    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Logits of normalised images."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


class _Block(nn.Module):
    """Attention, then a multi-layer perceptron, each added to the stream that it reads normalised."""

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(embedding), _Attention(embedding, heads)
        self.mlp_norm = nn.LayerNorm(embedding)
        self.mlp = nn.Sequential(
            nn.Linear(embedding, _EXPANSION * embedding), nn.GELU(), nn.Linear(_EXPANSION * embedding, embedding)
        )

    @no_type_check
    def forward(self, x: Float[Tensor, "batch tokens embedding"]) -> Float[Tensor, "batch tokens embedding"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class _Attention(nn.Module):
    """Self-attention, softmax(q k^T / sqrt(d)) v in each head."""

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (embedding // heads) ** -0.5
        self.qkv, self.projection = nn.Linear(embedding, 3 * embedding), nn.Linear(embedding, embedding)

    @no_type_check
    def forward(self, x: Float[Tensor, "batch tokens embedding"]) -> Float[Tensor, "batch tokens embedding"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        weights = torch.softmax(q @ k.transpose(2, 3) * self.scale, dim=-1)
        return self.projection((weights @ v).transpose(1, 2).flatten(2))
