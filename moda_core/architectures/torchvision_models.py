"""torchvision's image classifiers by name, with our class count, channels and image size."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from moda_core.errors import InvalidInput, Unavailable
from moda_core.specs import ArchitectureSpec

__all__ = ["PREFIX", "accepts", "build", "default_size", "names"]

PREFIX = "torchvision/"
_TWO_HEADED = ("googlenet", "inception_v3")


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """All classifiers of the installed torchvision, as ``torchvision/<name>``."""
    return tuple(PREFIX + name for name in models.list_models(module=models))


def default_size(name: str) -> int:
    """Pixels per side that the network was designed for."""
    return 299 if name == PREFIX + "inception_v3" else 224


def build(spec: ArchitectureSpec, *, pretrained: bool = False, device: str = "cpu") -> nn.Module:
    """The network, with random weights unless `pretrained`; auxiliary heads are off.

    Raises:
        InvalidInput: for an image size that the network cannot be built for.
        Unavailable: if pretrained weights cannot be downloaded.
    """
    on_meta = device == "meta" and not pretrained
    with _MetaFactories() if on_meta else nullcontext():
        network = _construct(spec)
    if pretrained:
        _load_pretrained(network, spec)
    return network.to(device)


@lru_cache(maxsize=256)
def accepts(spec: ArchitectureSpec) -> bool:
    """Whether the network runs on images of the spec's size; tried without computing anything."""
    images = torch.empty(2, spec.channels, spec.image_size, spec.image_size, device="meta")
    try:
        build(spec, device="meta").eval()(images)
    except (InvalidInput, RuntimeError, ValueError, AssertionError):
        return False
    return True


def _construct(spec: ArchitectureSpec) -> nn.Module:
    name = spec.name.removeprefix(PREFIX)
    options: dict[str, Any] = {"num_classes": spec.classes}
    if name in _TWO_HEADED:
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = spec.image_size
    if name.startswith("maxvit"):
        options["input_size"] = (spec.image_size, spec.image_size)
    try:
        network: nn.Module = models.get_model(name, weights=None, **options)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidInput(
            "image_size", spec.image_size, f"{spec.name} cannot be built for it: {error}", "try 224"
        ) from error
    if spec.channels != 3:
        _replace_stem(network, spec.channels)
    return network


def _replace_stem(network: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` instead of RGB."""
    name, stem = _stem(network)
    parent, _, attribute = name.rpartition(".")
    replacement = nn.Conv2d(
        channels,
        stem.out_channels,
        kernel_size=stem.kernel_size,  # type: ignore[arg-type]  # always a pair here
        stride=stem.stride,  # type: ignore[arg-type]
        padding=stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    setattr(network.get_submodule(parent), attribute, replacement)


def _stem(network: nn.Module) -> tuple[str, nn.Conv2d]:
    convolutions = ((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return next(convolutions)


def _load_pretrained(network: nn.Module, spec: ArchitectureSpec) -> None:
    """Copy torchvision's best weights wherever they fit; the rest (another class count) stays random."""
    state = _downloaded(spec.name.removeprefix(PREFIX))
    stem = _stem(network)[0] + ".weight"
    if spec.channels == 1:
        state[stem] = state[stem].sum(dim=1, keepdim=True)  # a grey image is r = g = b
    if isinstance(network, models.VisionTransformer):
        state = interpolate_embeddings(network.image_size, network.patch_size, state)
    own = network.state_dict()
    for name in [name for name, value in state.items() if name not in own or own[name].shape != value.shape]:
        del state[name]
    network.load_state_dict(state, strict=False)


def _downloaded(name: str) -> dict[str, Tensor]:
    """The weights as torchvision publishes them, checked by hash, unpickled as plain tensors only."""
    weights: Any = models.get_model_weights(name)
    try:
        state: dict[str, Tensor] = weights.DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise Unavailable(
            f"the pretrained weights of {name} could not be downloaded: {error}", "try again, or train from scratch"
        ) from error
    if name.startswith("densenet"):
        for key in list(state):
            # the published file spells ``norm.1`` what the module calls ``norm1``
            state[re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)] = state.pop(key)
    return state


class _MetaFactories(TorchFunctionMode):
    """Parameters are made on the meta device, while index arithmetic in a constructor stays real.

    Under ``torch.device("meta")`` RegNet cannot be built: it computes its widths with tensors.
    """

    _FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        placed = {**(kwargs or {}), "device": "meta"} if func in self._FACTORIES else (kwargs or {})
        return func(*args, **placed)
