"""How the width multiplier becomes a channel count."""

from __future__ import annotations

__all__ = ["scaled"]


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest whole number, at least 1."""
    return max(1, round(channels * width))
