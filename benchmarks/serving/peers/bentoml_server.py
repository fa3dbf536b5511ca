"""BentoML: a route for each model and form, adaptive batching unless MODA_BENCH_BATCH is 1.

    bentoml serve benchmarks.serving.peers.bentoml_server:Classifier

A batching API takes one list and nothing else: hence a route for each model, and for the raw body a type of our
own that makes a list of one from it.
"""

import io
import os
from collections.abc import Callable
from typing import Annotated, Any

import bentoml
from PIL import Image
from pydantic import BeforeValidator, WithJsonSchema

from benchmarks.serving.peers.classifiers import answers, loaded

__all__ = ["Classifier"]

_BATCH = int(os.environ.get("MODA_BENCH_BATCH", "32"))
_MOST_LATENCY_MS = 60_000
"""Of a batch: a limit is what BentoML refuses requests for, with 503; ours must not be reached."""
_ListOfOne = Annotated[
    list[Any],
    BeforeValidator(lambda body: [Image.open(io.BytesIO(body))]),
    WithJsonSchema({"type": "file", "format": "image"}),
]


def _single(key: str) -> dict[str, Callable[..., Any]]:
    def multipart(_self: object, image: Image.Image) -> dict[str, Any]:
        return answers([(key, image)])[0]

    def raw(_self: object, image: Image.Image, /) -> dict[str, Any]:
        return answers([(key, image)])[0]

    return {"multipart": multipart, "raw": raw}


def _batching(key: str) -> dict[str, Callable[..., Any]]:
    def multipart(_self: object, image: list[Image.Image]) -> list[dict[str, Any]]:
        return answers([(key, one) for one in image])

    def raw(_self: object, image: _ListOfOne, /) -> list[dict[str, Any]]:
        return answers([(key, one) for one in image])

    return {"multipart": multipart, "raw": raw}


def _routes() -> dict[str, Any]:
    routes = {}
    for key in (f"{model}-{way}" for model in ("tiny", "resnet18") for way in ("module", "executable")):
        for form, function in (_batching if _BATCH > 1 else _single)(key).items():
            name = f"{key}_{form}".replace("-", "_")
            function.__name__ = name
            batching = {"batchable": True, "max_batch_size": _BATCH, "max_latency_ms": _MOST_LATENCY_MS}
            routes[name] = bentoml.api(function, route=f"/{key}/{form}", **(batching if _BATCH > 1 else {}))
    return routes


def _load(_self: object) -> None:
    loaded("tiny-module")


Classifier = bentoml.service(
    type("Classifier", (), {"__init__": _load, **_routes()}),
    workers=int(os.environ.get("MODA_BENCH_WORKERS", "1")),
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
)
