"""How a worker runs, read once from ``MODA_*`` environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from moda_core.errors import InvalidInput

__all__ = ["DEFAULT_REDIS_URL", "Timing", "WorkerSettings"]

DEFAULT_REDIS_URL: Final = "redis://127.0.0.1:6379/0"
DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The periods of jobs, in seconds; all hosts on one Redis should agree on them.

    Attributes:
        lease_s: after this long without a heartbeat another worker may take the job.
        heartbeat_s: between two renewals of lease and presence; well below `lease_s`.
        flag_s: between two looks at the cancellation flag.
        ring_s: a job that has been queued this long since its last ring is rung for again.
        reap_s: between two sweeps of a reaper.
        max_lost_leases: so many attempts that ended without a word fail the job.
    """

    lease_s: float = 15.0
    heartbeat_s: float = 5.0
    flag_s: float = 0.5
    ring_s: float = 10.0
    reap_s: float = 2.0
    max_lost_leases: int = 3

    def __post_init__(self) -> None:
        for period in fields(self):
            value = getattr(self, period.name)
            if not value > 0:
                raise InvalidInput(period.name, value, "not a period", "give a number above 0")
        if self.reap_s * 4 > self.lease_s:
            # A sweep that comes half a lease late takes Redis for having been away, and pardons every lease.
            raise InvalidInput("reap_s", self.reap_s, "too slow for the lease", "give at most a quarter of lease_s")
        if self.heartbeat_s * 2 > self.lease_s:
            raise InvalidInput(
                "heartbeat_s", self.heartbeat_s, "too slow for the lease", "give at most half of lease_s"
            )


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker needs to know.

    Attributes:
        redis_url: where jobs are kept.
        registry: folder or URL of the registry.
        device: ``auto``, ``cpu`` or ``cuda``; ``auto`` takes CUDA when it is there.
        downloads: folder for official data sets that are fetched.
    """

    redis_url: str = DEFAULT_REDIS_URL
    registry: str = field(default_factory=lambda: str(Path.home() / ".moda" / "registry"))
    device: str = "auto"
    downloads: Path = field(default_factory=lambda: Path.home() / ".moda" / "downloads")
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InvalidInput("MODA_DEVICE", self.device, "not a device", f"choose one of {', '.join(DEVICES)}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> WorkerSettings:
        """Settings from ``MODA_REDIS_URL``, ``MODA_REGISTRY``, ``MODA_HOME`` and ``MODA_DEVICE``.

        Raises:
            InvalidInput: for a value that cannot be used.
        """
        home = Path(environment.get("MODA_HOME") or Path.home() / ".moda").expanduser()
        return cls(
            redis_url=environment.get("MODA_REDIS_URL") or DEFAULT_REDIS_URL,
            registry=environment.get("MODA_REGISTRY") or str(home / "registry"),
            device=environment.get("MODA_DEVICE") or "auto",
            downloads=home / "downloads",
        )
