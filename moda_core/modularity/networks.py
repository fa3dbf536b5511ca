"""From a model to something that answers: networks over raw pixels, of every kind of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from moda_core.architectures.catalogue import build
from moda_core.data.images import fit, normalise
from moda_core.modularity.composition import cut_weights, held_masks
from moda_core.modularity.models import Model, ModularModel, PatchedModel
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.sliced import assemble
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.surroundings import full_float32

__all__ = ["Network", "full_network", "logits", "network", "predict", "splice"]


class Network(nn.Module):
    """A model that can be asked: uint8 pixels in, logits out, normalisation inside.

    Attributes:
        labels: one per logit.
        inputs: one per argument of `forward`: a patched model has one per component.
    """

    def __init__(self, labels: tuple[str, ...], inputs: tuple[InputSpec, ...]) -> None:
        super().__init__()
        self.labels, self.inputs = labels, inputs
        self.training = False

    def forward(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float[Tensor, "batch classes"]:
        """Logits [batch, classes], for images already fitted to `inputs`."""
        raise NotImplementedError


class _Single(Network):
    """One network behind its input rule."""

    def __init__(self, labels: tuple[str, ...], rule: InputSpec, body: nn.Module) -> None:
        super().__init__(labels, (rule,))
        self.body = body

    def forward(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float[Tensor, "batch classes"]:
        logits: Tensor = self.body(normalise(pixels[0], self.inputs[0]))
        return logits


class _Patched(Network):
    """A weak network whose logit of one class is a strong module's, then the adaptation layer."""

    def __init__(self, model: PatchedModel, device: torch.device | str) -> None:
        weak, strong = network(model.weak, device), network(model.strong, device)
        super().__init__(model.labels, (*weak.inputs, *strong.inputs))
        self.weak, self.strong = weak, strong
        self.position = model.labels.index(model.label)
        self.adaptation = nn.Linear(len(model.labels), len(model.labels), device="meta")
        self.adaptation.load_state_dict({"weight": model.weight, "bias": model.bias}, assign=True)
        self.adaptation.eval().requires_grad_(False)

    def forward(self, *pixels: UInt8[Tensor, "batch _channels _size _size"]) -> Float[Tensor, "batch classes"]:
        weak, strong = self.weak(*pixels[: len(self.weak.inputs)]), self.strong(*pixels[len(self.weak.inputs) :])
        adapted: Tensor = self.adaptation(splice(weak, strong[:, 0], self.position))
        return adapted


def network(model: Model, device: torch.device | str = "cpu") -> Network:
    """A model ready to answer on a device, in eval mode; a composed one is sliced."""
    if isinstance(model, PatchedModel):
        built: Network = _Patched(model, device)
    elif isinstance(model, ModularModel) and model.composed:
        built = _Single(model.labels, model.input, _sliced(model))
    else:
        built = _Single(
            model.labels, model.input, full_network(model.architecture, model.weights).requires_grad_(False)
        )
    elsewhere = any(parameter.device != torch.device(device) for parameter in built.parameters())
    return built.to(device) if elsewhere else built


def full_network(
    architecture: ArchitectureSpec, weights: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> nn.Module:
    """An architecture around given weights, in eval mode: normalised images in, logits out."""
    body = build(architecture, device="meta")
    body.load_state_dict(dict(weights), assign=True)
    return body.to(device).eval()


def splice(
    weak: Float[Tensor, "images classes"], strong: Float[Tensor, "images"], position: int
) -> Float[Tensor, "images classes"]:
    """o_m: the weak model's logits, with the module's in place of the class at `position` (section 3.3)."""
    merged = weak.clone()
    merged[:, position] = strong
    return merged


def predict(
    asked: Network, images: Sequence[UInt8[Tensor, "_channels _height _width"]]
) -> Float[Tensor, "images classes"]:
    """Class probabilities of raw images of any size and colour."""
    return logits(asked, images).softmax(1)


def logits(
    asked: Network, images: Sequence[UInt8[Tensor, "_channels _height _width"]]
) -> Float[Tensor, "images classes"]:
    """Logits of raw images of any size and colour, on the CPU.

    The images are fitted to the network's input; inputs that are alike are fitted once.
    """
    device = next(iter(asked.parameters())).device
    fitted = {rule: torch.cat([fit(image[None], rule) for image in images]).to(device) for rule in set(asked.inputs)}
    with torch.inference_mode(), full_float32():
        answer: Tensor = asked(*(fitted[rule] for rule in asked.inputs))
    return answer.cpu()


def _sliced(model: ModularModel) -> nn.Module:
    graph = unit_graph(model.architecture)
    planned = plan(graph, held_masks(model), model.rows)
    return assemble(planned, cut_weights(model, planned.held))
