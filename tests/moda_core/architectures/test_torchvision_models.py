from pathlib import Path

import pytest
import torch
from torchvision import models

from moda_core.architectures import catalogue, torchvision_models
from moda_core.errors import InvalidInput, Unavailable

ONE_OF_EACH_KIND = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vgg11",
    "vit_b_32",
)


@pytest.fixture
def weights_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torch looks for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def cached_file(folder: Path, name: str) -> Path:
    return folder / models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]


def test_all_and_only_classifiers_are_named() -> None:
    names = torchvision_models.names()
    assert {"torchvision/" + name for name in ONE_OF_EACH_KIND} < set(names)
    assert not {"torchvision/fcn_resnet50", "torchvision/fasterrcnn_resnet50_fpn", "torchvision/r3d_18"} & set(names)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_builds_without_memory_for_any_class_count_and_channels(name: str) -> None:
    spec = catalogue.complete("torchvision/" + name, classes=5, channels=1)
    network = catalogue.build(spec, device="meta")
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert network.eval()(torch.empty(2, 1, spec.image_size, spec.image_size, device="meta")).shape == (2, 5)


def test_has_the_shapes_of_torchvisions_own_network() -> None:
    spec = catalogue.complete("torchvision/regnet_x_400mf", classes=5, channels=3)
    ours = catalogue.build(spec, device="meta").state_dict()
    theirs = models.regnet_x_400mf(num_classes=5).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_off(name: str) -> None:
    network = catalogue.build(catalogue.complete("torchvision/" + name, classes=2, channels=3), device="meta")
    assert not [part for part in network.state_dict() if "aux" in part.lower()]


@pytest.mark.parametrize("name", ["vit_b_32", "maxvit_t"])
def test_an_image_size_that_the_constructor_wants_is_passed_on(name: str) -> None:
    spec = catalogue.complete("torchvision/" + name, classes=2, channels=3, image_size=448)
    network = catalogue.build(spec, device="meta").eval()
    assert network(torch.empty(1, 3, 448, 448, device="meta")).shape == (1, 2)


@pytest.mark.parametrize("name", ["vit_b_32", "maxvit_t"])
def test_an_image_size_that_the_constructor_refuses_is_an_input_error(name: str) -> None:
    with pytest.raises(InvalidInput, match="image_size"):
        catalogue.complete("torchvision/" + name, classes=2, channels=3, image_size=50)


def test_nothing_is_downloaded_unless_asked(weights_cache: Path) -> None:
    catalogue.build(catalogue.complete("torchvision/squeezenet1_1", classes=2, channels=3))
    assert not list(weights_cache.iterdir())


def test_pretrained_weights_are_taken_where_they_fit(weights_cache: Path) -> None:
    original = models.squeezenet1_1().state_dict()
    torch.save(original, cached_file(weights_cache, "squeezenet1_1"))
    spec = catalogue.complete("torchvision/squeezenet1_1", classes=3, channels=3)
    weights = catalogue.build(spec, pretrained=True).state_dict()
    for name, value in weights.items():
        assert name.startswith("classifier.1") or torch.equal(value, original[name])
    assert weights["classifier.1.weight"].shape[0] == 3


def test_a_pretrained_grey_stem_answers_a_grey_image_as_the_colour_one_does(weights_cache: Path) -> None:
    colour = models.squeezenet1_1().eval()
    torch.save(colour.state_dict(), cached_file(weights_cache, "squeezenet1_1"))
    spec = catalogue.complete("torchvision/squeezenet1_1", classes=1000, channels=1, image_size=64)
    grey = catalogue.build(spec, pretrained=True).eval()
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(grey(image), colour(image.expand(1, 3, 64, 64)))


def test_pretrained_densenet_weights_are_all_taken_despite_their_old_names(weights_cache: Path) -> None:
    original = models.densenet121().state_dict()
    old = {name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for name, value in original.items()}
    assert old.keys() != original.keys()
    torch.save(old, cached_file(weights_cache, "densenet121"))
    spec = catalogue.complete("torchvision/densenet121", classes=1000, channels=3, image_size=64)
    weights = catalogue.build(spec, pretrained=True).state_dict()
    assert all(torch.equal(value, original[name]) for name, value in weights.items())


def test_weights_that_cannot_be_had_are_unavailable(weights_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    spec = catalogue.complete("torchvision/squeezenet1_1", classes=2, channels=3)
    with pytest.raises(Unavailable, match="squeezenet1_1 could not be downloaded"):
        catalogue.build(spec, pretrained=True)
    assert not list(weights_cache.iterdir())
