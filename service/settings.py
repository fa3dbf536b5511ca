"""The service's settings: the environment's `MODA_*`, read once where the process starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.inference.limits import Limits

__all__ = ["Settings"]

_MEBIBYTE = 2**20


class Settings(BaseSettings):
    """Where things are and what is allowed.

    Attributes:
        registry: a folder or an object store's URL; `registry` below `home` when not given.
        processes: that share the port; each has its own models, cache and queue.
        device: `auto` takes CUDA when it is there.
        allowed_hosts: the names, besides loopback's and `host`, that requests may know the service by;
            written with commas, `*` for any.
        import_dir: the only folder of the server that `POST /datasets` may name; None for none.
        max_body_bytes: of any request but an upload of a model or data set.
        max_upload_bytes: of those.
        max_pixels: of all images of one prediction together.
        forms: forms of executables to try beside those that are always tried, written with commas: `compiled`
            (torch.compile), `captured` (CUDA graphs), `bf16`. What is fastest and right is measured.
        cache_bytes: of composed and loaded models kept ready.
        max_batch: images of one forward pass.
        max_queue: images of predictions that may wait or run; more are refused with 429.
        timeout_s: after which a prediction that is not there is given up with 504; a caller may ask for less.
    """

    model_config = SettingsConfigDict(
        env_prefix="MODA_",
        env_ignore_empty=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        frozen=True,
        extra="ignore",
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".moda")
    redis_url: str = "redis://127.0.0.1:6379/0"
    registry: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    processes: int = Field(default=1, ge=1, le=256)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    import_dir: Path | None = None
    max_body_bytes: int = Field(default=64 * _MEBIBYTE, gt=0)
    max_upload_bytes: int = Field(default=8192 * _MEBIBYTE, gt=0)
    max_pixels: int = Field(default=50_000_000, gt=0)
    forms: Annotated[tuple[Literal["bf16", "compiled", "captured"], ...], NoDecode] = ()
    cache_bytes: int = Field(default=1024 * _MEBIBYTE, ge=0)

    max_batch: int = Field(default=Limits.max_batch, gt=0)
    max_queue: int = Field(default=Limits.max_queue, gt=0)
    timeout_s: float = Field(default=Limits.timeout_s, gt=0)

    @field_validator("home", "import_dir")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()

    @field_validator("allowed_hosts", "forms", mode="before")
    @classmethod
    def _listed(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @property
    def registry_location(self) -> str:
        """The folder or URL of the registry."""
        return self.registry or str(self.home / "registry")

    @property
    def limits(self) -> Limits:
        """What predictions are taken on at a time."""
        return Limits(max_batch=self.max_batch, max_queue=self.max_queue, timeout_s=self.timeout_s)

    @property
    def uploads(self) -> Path:
        """Where a file that is sent lies until it is stored: where its copy will be, when that is a local folder."""
        location = self.registry_location.removeprefix("file://")
        return (self.home if "://" in location else Path(location)).resolve() / ".received"
