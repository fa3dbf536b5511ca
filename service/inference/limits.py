"""How much is taken on at a time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken on at a time.

    Attributes:
        max_batch: images of one forward pass.
        max_loads: models that may wait to be loaded or composed; more are refused.
        max_queue: images that may wait or run; more are refused.
        max_queue_bytes: of the files among them.
        timeout_s: after which an answer is given up.
    """

    max_batch: int = 32
    max_loads: int = 64
    max_queue: int = 1024
    max_queue_bytes: int = 512 * 2**20
    timeout_s: float = 30.0
