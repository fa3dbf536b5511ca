"""What everybody serves: `python -m benchmarks.serving.models FOLDER` writes it, so that the measuring process needs no torch.

Below the folder: for each model its file and a picture of its size, and a registry that holds the same
files, and the modular model whose composition is measured.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from benchmarks.compose import counts_like_trained, modular_model
from benchmarks.serving.contestants import MODULAR
from moda_core.architectures.catalogue import build, complete
from moda_core.modularity.models import TrainedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Registry
from service.admission import admit

__all__ = ["ARCHITECTURES", "main", "picture", "trained_model", "write"]

CLASSES = 10
ARCHITECTURES: Mapping[str, ArchitectureSpec] = MappingProxyType(
    {
        "tiny": complete("cnn", classes=CLASSES, channels=3, width=0.25),
        "resnet18": complete("resnet18", classes=CLASSES, channels=3, image_size=32),
    }
)


def trained_model(name: str, seed: int = 0) -> TrainedModel:
    """Random weights: what a model says does not change how long it takes to say it."""
    architecture = ARCHITECTURES[name]
    rule = InputSpec(image_size=architecture.image_size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = build(architecture).state_dict()
    return TrainedModel(architecture, tuple(f"class {row}" for row in range(CLASSES)), rule, weights)


def picture(size: int, seed: int = 0) -> bytes:
    """A PNG of coloured noise, which no encoder makes smaller: 1 kB at 16 pixels, 3 kB at 32."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(folder: Path) -> None:
    """Write the models' files, their pictures and the registry."""
    registry = Registry(folder / "registry")
    for name, architecture in ARCHITECTURES.items():
        _keep(registry, name, encode(trained_model(name)), architecture, folder)
    modular = modular_model("resnet18", counts_like_trained, seed=0)
    _keep(registry, MODULAR, encode(modular), modular.architecture, folder)


def main() -> None:
    """The program."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    folder: Path = options.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write(folder)


def _keep(registry: Registry, name: str, file: bytes, architecture: ArchitectureSpec, folder: Path) -> None:
    (folder / f"{name}.png").write_bytes(picture(architecture.image_size))
    path = folder / f"{name}.safetensors"
    path.write_bytes(file)
    registry.publish_version(name, admit(registry, path))


if __name__ == "__main__":
    main()
