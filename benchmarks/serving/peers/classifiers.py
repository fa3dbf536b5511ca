"""What a peer's server runs: one of our models, as its author would write it or as our own executable.

Keys name a model and a way, as in ``resnet18-module``: ``module`` is the plain torch network behind a few lines
that any author would write, ``executable`` is what our service runs. They load at their first use, so that a
server's memory can be read before the second one is there.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from moda_core.architectures.catalogue import build
from moda_core.inference.executables import executable
from moda_core.modularity.models import TrainedModel
from moda_core.storage.artifacts import decode

__all__ = ["answers", "loaded"]

_MODELS, _FORMS = "MODA_BENCH_MODELS", "MODA_BENCH_FORMS"
"""Environment variables: the folder of the models' files, and as JSON in which form our service runs each."""

_Run = Callable[[list[Tensor]], Tensor]
"""Decoded images (uint8, channels first) to probabilities."""


def answers(asked: Sequence[tuple[str, bytes | Image.Image]]) -> list[dict[str, Any]]:
    """Label and probabilities for each (key, image), neighbours with one key in one batch."""
    found: list[dict[str, Any]] = []
    for key, group in groupby(asked, itemgetter(0)):
        labels, run = loaded(key)
        rows = run([_pixels(image) for _, image in group]).tolist()
        found += [{"label": labels[row.index(max(row))], "probabilities": row} for row in rows]
    return found


@lru_cache
def loaded(key: str) -> tuple[tuple[str, ...], _Run]:
    """A model's labels, and the model ready to run."""
    name, _, way = key.partition("-")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = decode(Path(os.environ[_MODELS]) / f"{name}.safetensors")
    assert isinstance(model, TrainedModel)
    return model.labels, (_module(model) if way == "module" else _executable(name, model))


def _module(model: TrainedModel) -> _Run:
    body = build(model.architecture)
    body.load_state_dict(dict(model.weights))
    body.eval()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.input.mean, model.input.std))

    def run(images: list[Tensor]) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = body((torch.stack(images).float() / 255 - mean) / std)
            return logits.softmax(1)

    return run


def _executable(name: str, model: TrainedModel) -> _Run:
    run = executable(model, json.loads(os.environ[_FORMS])[name])
    return lambda images: run(torch.stack(images)).softmax(1)


def _pixels(image: bytes | Image.Image) -> Tensor:
    opened = image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image))
    return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
