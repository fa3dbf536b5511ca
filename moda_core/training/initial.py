"""The network that training starts from."""

from __future__ import annotations

import torch
from torch import nn

from moda_core.architectures.catalogue import build
from moda_core.specs import ArchitectureSpec

__all__ = ["initial_network"]


def initial_network(architecture: ArchitectureSpec, seed: int, *, pretrained: bool = False) -> nn.Module:
    """Build a network on the CPU with weights drawn under `seed`; the global generators stay as they are.

    With `pretrained`, torchvision's weights are downloaded, and only what they do not fit is drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(architecture, pretrained=pretrained)
