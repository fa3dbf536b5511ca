"""How long work reports, and learns that it must stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Control"]


@runtime_checkable  # so that types can be checked while the tests run
class Control(Protocol):
    """The caller's side of a workflow."""

    def progress(self, event: Mapping[str, Any]) -> None:
        """Hear of progress: ``event`` names what it is (``epoch``, ``stage``), the rest is its data."""

    def cancelled(self) -> bool:
        """Whether to stop; asked between steps."""
