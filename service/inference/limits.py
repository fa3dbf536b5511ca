"""How much is taken on at a time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken on at a time.

    Attributes:
        max_batch: images of one forward pass.
        max_queue: images that may wait or run; more are refused.
        timeout_s: after which an answer is given up.
    """

    max_batch: int = 32
    max_queue: int = 1024
    timeout_s: float = 30.0
