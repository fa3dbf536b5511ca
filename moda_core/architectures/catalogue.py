"""All networks by name: our own for small images, and torchvision's classifiers."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from torch import nn

from moda_core.architectures.cnn import CNN
from moda_core.architectures.lenet import LeNet5
from moda_core.architectures.mobilenet import MobileNet
from moda_core.architectures.resnet import ResNet18
from moda_core.architectures.vgg import VGG16
from moda_core.architectures.vit import VisionTransformer
from moda_core.errors import InvalidInput
from moda_core.specs import ArchitectureSpec

__all__ = ["build", "complete", "names"]


@dataclass(frozen=True)
class _Own:
    """One of our own networks, its default image size and the least that it can take."""

    network: Callable[..., nn.Module]
    default_size: int = 32
    least_size: int = 8


_OWN = {
    "vgg16": _Own(VGG16, least_size=32),
    "resnet18": _Own(ResNet18),
    "mobilenet": _Own(MobileNet),
    "lenet5": _Own(LeNet5, least_size=16),
    "cnn": _Own(CNN, default_size=16),
    "cnn-gelu": _Own(partial(CNN, activation=nn.GELU), default_size=16),
    "vit": _Own(VisionTransformer),
}


def names() -> tuple[str, ...]:
    """Our own networks, then torchvision's."""
    return (*_OWN, *_torchvision().names())


def complete(
    name: str, *, classes: int, channels: int, image_size: int | None = None, width: float = 1.0
) -> ArchitectureSpec:
    """The spec of a network that can be built and run, with the network's own image size for None.

    Raises:
        InvalidInput: for an unknown name, a width that torchvision's networks do not have, or an
            image size that the network cannot take.
    """
    _check_name(name)
    if image_size is None:
        image_size = _OWN[name].default_size if name in _OWN else _torchvision().default_size(name)
    spec = ArchitectureSpec(name=name, classes=classes, channels=channels, image_size=image_size, width=width)
    _check(spec)
    if name not in _OWN and not _torchvision().accepts(spec):
        default = _torchvision().default_size(name)
        raise InvalidInput("image_size", image_size, f"{name} cannot take images of this size", f"try {default}")
    return spec


def build(spec: ArchitectureSpec, *, pretrained: bool = False, device: str = "cpu") -> nn.Module:
    """The network of `spec` in training mode: normalised images in, logits [batch, classes] out.

    On the ``meta`` device it has shapes and no memory. Initial weights are drawn on the CPU from
    torch's global generator, so they are the same on every device. With `pretrained` they are
    torchvision's, downloaded where they are not cached, and a head of another class count stays
    random; without it nothing is ever downloaded.

    Raises:
        InvalidInput: for a spec that `complete` would not make, or `pretrained` for our own networks.
        Unavailable: if pretrained weights cannot be downloaded.
    """
    _check(spec)
    if spec.name not in _OWN:
        network: nn.Module = _torchvision().build(spec, pretrained=pretrained, device=device)
        return network
    if pretrained:
        raise InvalidInput(
            "pretrained", spec.name, "only torchvision's networks have pretrained weights", "train it from scratch"
        )
    with torch.device("meta" if device == "meta" else "cpu"):
        network = _OWN[spec.name].network(
            classes=spec.classes, channels=spec.channels, image_size=spec.image_size, width=spec.width
        )
    return network.to(device)


def _check_name(name: str) -> None:
    if name in _OWN or name in _torchvision().names():
        return
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    suggestion = f"did you mean {' or '.join(close)}" if close else f"choose one of {', '.join(_OWN)}"
    raise InvalidInput(
        "architecture", name, "not a known network", f"{suggestion}, or a torchvision classifier as torchvision/<name>"
    )


def _check(spec: ArchitectureSpec) -> None:
    _check_name(spec.name)
    if spec.name not in _OWN:
        if spec.width != 1.0:
            raise InvalidInput("width", spec.width, "torchvision's networks have no width multiplier", "give 1.0")
        return
    least = _OWN[spec.name].least_size
    if spec.image_size < least:
        raise InvalidInput(
            "image_size", spec.image_size, f"too small for {spec.name}", f"give at least {least} pixels per side"
        )


def _torchvision() -> ModuleType:
    """Imported when first asked for: torchvision takes longer to load than our networks to build."""
    from moda_core.architectures import torchvision_models

    return torchvision_models
