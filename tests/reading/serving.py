"""Applications on a real server (a port of 127.0.0.1, a thread, httpx in front), and models to serve."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image

from moda_core.architectures import catalogue
from moda_core.data.dataset import Dataset, Images
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from moda_core.structure.unitgraph import unit_graph
from service.app import create_app
from service.settings import Settings

LABELS = ("cat", "dog", "ship", "a/b & ü")


@contextmanager
def serving(app: object) -> Iterator[httpx.Client]:
    """A client of `app`, which has started before and ends after it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_config=None, ws="none", loop="asyncio", lifespan="on", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        assert server.started, "the application did not start"
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(10)


def trained_model(seed: int = 0, *, name: str = "cnn", labels: tuple[str, ...] = LABELS) -> TrainedModel:
    """Random weights in a small architecture for grey images."""
    size = 32 if name == "lenet5" else 16
    architecture = ArchitectureSpec(name=name, classes=len(labels), channels=1, image_size=size, width=0.25)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = catalogue.build(architecture).state_dict()
    return TrainedModel(architecture, labels, InputSpec(image_size=size, channels=1, mean=(0.5,), std=(0.3,)), weights)


def modular_model(seed: int = 0, *, name: str = "cnn") -> ModularModel:
    """The same with activation counts over 10 samples a class, also random."""
    trained, generator = trained_model(seed, name=name), torch.Generator().manual_seed(seed)
    layers = unit_graph(trained.architecture).layers
    counts = {
        layer.name: torch.randint(0, 11, (len(LABELS), layer.units), generator=generator, dtype=torch.int32)
        for layer in layers
    }
    units = {layer.name: torch.arange(layer.units) for layer in layers}
    return ModularModel(
        architecture=trained.architecture,
        labels=LABELS,
        rows=tuple(range(len(LABELS))),
        input=trained.input,
        weights=trained.weights,
        counts=ActivationCounts(counts, units, (10,) * len(LABELS)),
        threshold=Decimal("0.5"),
    )


def patched_model() -> PatchedModel:
    """A weak model with the module of one class."""
    weak, count = trained_model(1), len(LABELS)
    return PatchedModel(weak, compose(modular_model(), ["cat"]), "cat", torch.eye(count), torch.zeros(count))


def dataset() -> Dataset:
    """Four grey images of each of the models' classes, and two to test with."""
    generator = torch.Generator().manual_seed(0)

    def images(each: int) -> Images:
        count = each * len(LABELS)
        pixels = torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
        return Images(pixels, torch.arange(count) % len(LABELS))

    return Dataset(LABELS, images(4), images(2), mirror=False)


def png(value: int = 100, size: tuple[int, int] = (16, 16)) -> bytes:
    """A grey image file; its pixels differ with `value`."""
    pixels = (np.arange(size[0] * size[1]).reshape(size[::-1]) * (value + 1) % 256).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def problem(response: httpx.Response, status: int) -> dict:
    """The problem document of an answer that must have this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["request_id"] == response.headers["x-request-id"]
    return body


@dataclass(frozen=True)
class Running:
    """A service, its registry, and where its jobs are kept."""

    http: httpx.Client
    registry: Registry
    settings: Settings

    def upload(self, model: object, name: str) -> dict:
        """Store a model through the service."""
        response = self.http.post("/models", data={"name": name}, files={"file": ("m.safetensors", encode(model))})
        assert response.status_code == 201, response.text
        return response.json()


@contextmanager
def running(home: Path, redis_url: str, **settings: object) -> Iterator[Running]:
    """A service on a registry in `home` that holds one model of each kind, and a data set."""
    made = Settings(home=home, redis_url=redis_url, device="cpu", **settings)
    with serving(create_app(made)) as http:
        service = Running(http, Registry(made.registry_location), made)
        service.upload(trained_model(), "plain")
        service.upload(modular_model(), "animals")
        service.upload(compose(modular_model(), ["cat", "dog", "ship"]), "cut")
        service.upload(patched_model(), "patched")
        service.registry.put_dataset("pictures", dataset())
        yield service
