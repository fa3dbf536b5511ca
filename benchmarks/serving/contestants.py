"""Who takes part: our service as `moda up` starts it, and each peer with and without batching."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.environments import PEERS, NotInstalled, environment
from service.up import allocator, service_command

__all__ = ["FIRST_MODEL", "MODULAR", "OURS", "Contestant", "Place", "ours", "peers"]

OURS = "MODA"
FIRST_MODEL = "tiny"
"""What a server has loaded when it says that it has started."""
MODULAR = "modular"
"""The modular ResNet18 of the registry."""
_ROOT = Path(__file__).resolve().parents[2]
_NAMES = {"litserve": "LitServe", "bentoml": "BentoML", "ray": "Ray Serve"}
_BATCH = 32
_NO_REDIS = "redis://127.0.0.1:1/0"
"""Nobody listens there: predictions need no Redis."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everybody runs.

    Attributes:
        models: the folder that `benchmarks.serving.models` wrote.
        scratch: for logs and homes, removed afterwards.
        threads: of torch, for each process.
        processes: of our service; peers run with as many workers, and with one.
        forms: in which our service runs each model, once it has measured them.
    """

    models: Path
    scratch: Path
    environments: Path
    threads: int = 1
    processes: int = 1
    forms: Mapping[str, str] = field(default_factory=dict)

    def surroundings(self) -> dict[str, str]:
        """The environment that all processes share: nothing of the caller's but the path of programs."""
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.scratch),
            "PYTHONPATH": str(_ROOT),
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "CUDA_VISIBLE_DEVICES": "",
        }


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One server in one configuration.

    Attributes:
        family: whose it is: ours, or a peer's.
        ways: how it can run a model: ``module`` and ``executable``; ours runs its executable.
        command: to start it on a port.
        path: of the predictions of a model, run one way, asked in one form.
        batching: whether it runs several requests together.
        names_model: whether the model is named in the form rather than in the path.
    """

    name: str
    family: str
    ways: tuple[str, ...]
    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str]
    path: Callable[[str, str, str], str]
    batching: bool = True
    names_model: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.family == OURS


def ours(place: Place) -> Contestant:
    """Our service as `moda up` starts it, with request ids, metrics, limits and JSON logs as always."""
    settings = {
        "MODA_HOME": str(place.scratch),
        "MODA_REGISTRY": str(place.models / "registry"),
        "MODA_DEVICE": "cpu",
        "MODA_REDIS_URL": _NO_REDIS,
    }
    return Contestant(
        name=OURS,
        family=OURS,
        ways=("executable",),
        command=lambda port: service_command("127.0.0.1", port, place.processes),
        environment={**place.surroundings(), **allocator(), **settings},
        path=lambda model, _way, _form: f"/predict?model={model}",
        names_model=True,
    )


def peers(place: Place, wanted: Sequence[str] = PEERS) -> tuple[list[Contestant], list[str]]:
    """The peers that can be installed, with and without batching and more workers, and why others are not there."""
    found: list[Contestant] = []
    missing: list[str] = []
    for peer in wanted:
        try:
            home = environment(peer, place.environments)
        except NotInstalled as error:
            missing.append(str(error))
        else:
            workers = sorted({1, place.processes})
            found += [_peer(peer, home, place, batch, count) for count in workers for batch in (_BATCH, 1)]
    return found, missing


def _peer(peer: str, home: Path, place: Place, batch: int, workers: int) -> Contestant:
    settings = {
        "MODA_BENCH_MODELS": str(place.models),
        "MODA_BENCH_FORMS": json.dumps(dict(place.forms)),
        "MODA_BENCH_BATCH": str(batch),
        "MODA_BENCH_WORKERS": str(workers),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    return Contestant(
        name=f"{_NAMES[peer]}, {'batching' if batch > 1 else 'no batching'}{f', {workers} workers' * (workers > 1)}",
        family=_NAMES[peer],
        ways=("module", "executable"),
        command=lambda port: _peer_command(peer, home, port, batch),
        environment={**place.surroundings(), **settings},
        path=_by_route if peer == "bentoml" else _by_query,
        batching=batch > 1,
    )


def _peer_command(peer: str, home: Path, port: int, batch: int) -> list[str]:
    if peer == "bentoml":
        service = "benchmarks.serving.peers.bentoml_server:Classifier"
        return [str(home / "bin" / "bentoml"), "serve", service, "--host", "127.0.0.1", "--port", str(port)]
    return [str(home / "bin" / "python"), "-m", f"benchmarks.serving.peers.{peer}_server", str(port), str(batch)]


def _by_query(model: str, way: str, _form: str) -> str:
    return f"/predict?model={model}-{way}"


def _by_route(model: str, way: str, form: str) -> str:
    return f"/{model}-{way}/{form}"
