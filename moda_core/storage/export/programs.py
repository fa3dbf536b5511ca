"""A model as one traced program with named inputs, which the formats then write."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from moda_core.errors import ModaError, NotExportable
from moda_core.modularity.models import Model, kind_of
from moda_core.modularity.networks import Network, network
from moda_core.specs import canonical_json, sha256
from moda_core.storage import artifacts
from moda_core.storage.manifests import FORMAT

__all__ = ["OUTPUT", "Entrance", "Program", "exporting", "program"]

OUTPUT = "logits"
_TRACED_BATCH = 2  # a batch of 1 would be taken for a constant
_TALKATIVE = ("torch", "onnx_ir", "onnxscript")


class Entrance(nn.Module):
    """A network with one input for each *shape* of image that its components take.

    A patched model's components often take images of one shape; then the program has one input, whatever
    the components' own normalisation.
    """

    def __init__(self, asked: Network) -> None:
        super().__init__()
        self.network = asked
        self.shapes = tuple(dict.fromkeys((rule.channels, rule.image_size) for rule in asked.inputs))
        self.places = tuple(self.shapes.index((rule.channels, rule.image_size)) for rule in asked.inputs)
        self.eval()

    def forward(self, *pixels: UInt8[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch classes"]:
        """Logits of the images, which are given once in each of `shapes`."""
        logits: Tensor = self.network(*(pixels[place] for place in self.places))
        return logits


@dataclass(frozen=True)
class Program:
    """A traced model.

    Attributes:
        entrance: what was traced.
        exported: its trace; any number of images at a time.
        inputs: names, one per argument: ``pixels``, ``pixels_2``, ...
        metadata: canonical JSON for the file's ``moda`` entry.
    """

    entrance: Entrance
    exported: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    metadata: str


def program(model: Model) -> Program:
    """Trace a model on the CPU.

    Raises:
        NotExportable: when `torch.export` cannot read its forward pass.
    """
    with exporting("traced by torch.export"):
        entrance = Entrance(network(model))
        inputs = tuple("pixels" if place == 0 else f"pixels_{place + 1}" for place in range(len(entrance.shapes)))
        return Program(entrance, _traced(entrance), inputs, _metadata(model, entrance, inputs))


@contextmanager
def exporting(what: str) -> Iterator[None]:
    """Keep the libraries' warnings and messages away, and name what failed in our own error."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    try:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModaError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotExportable(f"the model cannot be {what}: {reason}", "download it as safetensors") from error
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _traced(entrance: Entrance) -> torch.export.ExportedProgram:
    """The trace, without the lines of source code that each of its calls came from, which name folders of this host."""
    batch = torch.export.Dim("batch", min=1)
    images = tuple(
        torch.zeros(_TRACED_BATCH, channels, size, size, dtype=torch.uint8) for channels, size in entrance.shapes
    )
    exported = torch.export.export(
        entrance, images, dynamic_shapes={"pixels": tuple({0: batch} for _ in images)}, strict=False
    )
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)
    return exported


def _metadata(model: Model, entrance: Entrance, inputs: tuple[str, ...]) -> str:
    """What a reader needs, and the digest of the safetensors file of the same model, by which to find it."""
    described = {
        "format": FORMAT,
        "kind": kind_of(model),
        "labels": list(model.labels),
        "inputs": [
            {"name": name, "channels": channels, "image_size": size}
            for name, (channels, size) in zip(inputs, entrance.shapes, strict=True)
        ],
        "output": OUTPUT,
        "safetensors": sha256(artifacts.encode(model)),
    }
    return canonical_json(described)
