"""A virtual environment for each peer, with the torch that ours has.

Each is made from `requirements/torch.txt`, the lock that our own images use, and the peer's own file beside this
one. uv links the files of torch from its cache, so that four environments take little more room than one. They are
compiled to bytecode as ours is, or the first start of each would measure that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

__all__ = ["PEERS", "NotInstalled", "environment", "versions"]

PEERS = ("litserve", "bentoml", "ray")
_ROOT = Path(__file__).resolve().parents[2]
_REPORTED = ("litserve", "bentoml", "ray", "torch", "onnxruntime", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "numpy", "pillow")  # fmt: skip
_INSTALL = ("pip", "install", "--quiet", "--compile-bytecode")
_PATIENCE_S = 900


class NotInstalled(Exception):
    """A peer's environment could not be made; says why."""


def environment(peer: str, folder: Path) -> Path:
    """The folder of the peer's environment, made below `folder` unless it is there and as its files ask.

    Raises:
        NotInstalled: without uv, when a requirement cannot be had, or with another build of torch than ours.
    """
    home = folder / peer
    wanted = _digest(peer)
    stamp = home / "requirements.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        _make(peer, home)
        stamp.write_text(wanted)
    _check_same_torch(peer, home)
    return home


def versions(home: Path | None = None) -> dict[str, str]:
    """What runs in an environment (default: ours), as far as it matters for serving."""
    found = distributions(path=[str(_packages(home))]) if home else distributions()
    known = {distribution.name.lower(): distribution.version for distribution in found}
    return {name: known[name] for name in _REPORTED if name in known}


def _requirements(peer: str) -> tuple[Path, Path]:
    return _ROOT / "requirements" / "torch.txt", Path(__file__).with_name(f"requirements-{peer}.txt")


def _digest(peer: str) -> str:
    parts = [sys.version.encode(), *map(str.encode, _INSTALL), *(path.read_bytes() for path in _requirements(peer))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _make(peer: str, home: Path) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotInstalled(f"{peer}: no uv, neither beside {Path(sys.executable).name} nor on the path")
    files = [word for path in _requirements(peer) for word in ("-r", str(path))]
    _run(peer, [uv, "venv", "--quiet", "--python", sys.executable, str(home)])
    _run(peer, [uv, *_INSTALL, "--python", str(home / "bin" / "python"), *files])


def _run(peer: str, command: Iterable[str]) -> None:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=_PATIENCE_S, env=_quiet())
    if done.returncode:
        raise NotInstalled(f"{peer}: {(done.stderr or done.stdout).strip()[-1000:]}")


def _quiet() -> dict[str, str]:
    return {**os.environ, "UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "hardlink"), "UV_NO_PROGRESS": "1"}


def _check_same_torch(peer: str, home: Path) -> None:
    """Compare the files in which torch names its version, commit and CUDA."""
    ours = Path(sysconfig.get_path("purelib")) / "torch" / "version.py"
    theirs = _packages(home) / "torch" / "version.py"
    if ours.read_bytes() != theirs.read_bytes():
        raise NotInstalled(f"{peer}: its torch is not the build that ours is; install ours from requirements/dev.txt")


def _packages(home: Path) -> Path:
    return next(home.glob("lib/python*/site-packages"))
