import pytest
import torch
from torch import fx

from moda_core.architectures import catalogue
from moda_core.errors import InvalidInput
from moda_core.specs import ArchitectureSpec

OWN = ("vgg16", "resnet18", "mobilenet", "lenet5", "cnn", "cnn-gelu", "vit")


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        # convolutions 14,714,688 and batch norms 8,448 as in torchvision's VGG16-BN, then 512-4096-4096-10
        ("vgg16", 3, 14_714_688 + 8_448 + 513 * 4096 + 4097 * 4096 + 4097 * 10),
        ("resnet18", 3, 11_173_962),
        ("mobilenet", 3, 3_217_226),
        ("lenet5", 3, 6 * 76 + 16 * 151 + 401 * 120 + 121 * 84 + 85 * 10),
        # patches and positions, two blocks (norms, qkv, projection, MLP of 4 x 128), norm, head
        ("vit", 3, 49 * 128 + 64 * 128 + 2 * (2 * 256 + 129 * 384 + 129 * 128 + 129 * 512 + 513 * 128) + 256 + 1290),
        ("cnn", 1, 9 * (16 + 16 * 32 + 32 * 32 + 32 * 64) + 2 * (16 + 32 + 32 + 64) + 1025 * 128 + 129 * 10),
    ],
)
def test_parameters_of_ten_classes_are_the_published_counts(name: str, channels: int, expected: int) -> None:
    spec = catalogue.complete(name, classes=10, channels=channels)
    assert parameters(catalogue.build(spec, device="meta")) == expected


def test_the_paper_sizes_in_millions() -> None:
    counts = [
        parameters(catalogue.build(catalogue.complete(name, classes=10, channels=3), device="meta")) for name in OWN[:3]
    ]
    assert [round(count / 1e6, 1) for count in counts] == [33.6, 11.2, 3.2]


def test_the_gelu_network_is_the_small_one_with_another_activation() -> None:
    specs = {name: catalogue.complete(name, classes=10, channels=1) for name in ("cnn", "cnn-gelu")}
    relu, gelu = (catalogue.build(spec, device="meta") for spec in specs.values())
    states = [{name: state.shape for name, state in network.state_dict().items()} for network in (relu, gelu)]
    assert states[0] == states[1]
    kinds = [[type(part) for part in network.modules()] for network in (relu, gelu)]
    swap = {torch.nn.ReLU: torch.nn.GELU}
    assert [swap.get(kind, kind) for kind in kinds[0][1:]] == kinds[1][1:]


def test_the_vision_transformer_is_attention_as_torch_computes_it() -> None:
    """Its written-out attention against torch's fused one."""
    torch.manual_seed(0)
    network = catalogue.build(catalogue.complete("vit", classes=3, channels=1, image_size=8, width=0.25)).eval()
    attention, tokens = network.blocks[0].attention, torch.randn(2, 16, 32)
    q, k, v = (part.unflatten(2, (2, 16)).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, dim=2))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(tokens), attention.projection(fused), atol=1e-6)


@pytest.mark.parametrize(("image_size", "tokens"), [(8, 16), (16, 64), (32, 64), (40, 100)])
def test_patches_are_2_pixels_wide_below_32_and_4_from_there_on(image_size: int, tokens: int) -> None:
    spec = catalogue.complete("vit", classes=3, channels=1, image_size=image_size)
    assert catalogue.build(spec, device="meta").position.shape == (1, tokens, 128)


def test_vgg_features_end_at_one_pixel() -> None:
    network = catalogue.build(catalogue.complete("vgg16", classes=10, channels=3), device="meta")
    assert network.features(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 512, 1, 1)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [None, 40, 64])
def test_own_networks_give_one_logit_per_class_at_any_size(name: str, channels: int, image_size: int | None) -> None:
    spec = catalogue.complete(name, classes=7, channels=channels, image_size=image_size, width=0.5)
    images = torch.empty(2, channels, spec.image_size, spec.image_size, device="meta")
    assert catalogue.build(spec, device="meta")(images).shape == (2, 7)


@pytest.mark.parametrize("name", OWN)
def test_own_networks_compute_the_same_when_traced(name: str) -> None:
    torch.manual_seed(0)
    spec = catalogue.complete(name, classes=3, channels=3, width=0.1)
    network = catalogue.build(spec).eval()
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    assert torch.equal(fx.symbolic_trace(network)(images), network(images))


@pytest.mark.parametrize("name", OWN)
def test_the_width_multiplies_every_hidden_layer_and_leaves_input_and_classes(name: str) -> None:
    def shapes(width: float) -> list[torch.Size]:
        network = catalogue.build(catalogue.complete(name, classes=10, channels=3, width=width), device="meta")
        weights = {name: weight for name, weight in network.state_dict().items() if name.endswith("weight")}
        return [weight.shape for weight in weights.values() if weight.ndim >= 2]

    whole, double = shapes(1.0), shapes(2.0)
    assert [shape[0] * 2 for shape in whole[:-1]] == [shape[0] for shape in double[:-1]]
    assert whole[0][1] == double[0][1] == 3
    assert whole[-1][0] == double[-1][0] == 10


def test_a_tiny_width_keeps_one_unit_per_layer() -> None:
    network = catalogue.build(catalogue.complete("resnet18", classes=2, channels=1, width=0.001))
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 2)


def test_the_default_size_is_the_networks_own() -> None:
    sizes = {
        name: catalogue.complete(name, classes=2, channels=3).image_size
        for name in (*OWN, "torchvision/alexnet", "torchvision/inception_v3")
    }
    assert sizes == dict.fromkeys(OWN, 32) | {
        "cnn": 16,
        "cnn-gelu": 16,
        "torchvision/alexnet": 224,
        "torchvision/inception_v3": 299,
    }


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet81", "did you mean resnet18"),
        ("torchvision/resnet51", "did you mean torchvision/resnet"),
        ("", "lenet5"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name: str, suggestion: str) -> None:
    with pytest.raises(InvalidInput, match="not a known network") as caught:
        catalogue.complete(name, classes=10, channels=3)
    assert suggestion in str(caught.value)
    assert caught.value.field == "architecture"


def test_building_an_unknown_name_is_refused_too() -> None:
    with pytest.raises(InvalidInput, match="not a known network"):
        catalogue.build(ArchitectureSpec(name="torchvision/fcn_resnet50", classes=2))


@pytest.mark.parametrize("width", [0.0, -1.0, 17.0, float("nan")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(InvalidInput, match="width: out of range"):
        catalogue.complete("vgg16", classes=10, channels=3, width=width)


def test_torchvision_has_no_width() -> None:
    with pytest.raises(InvalidInput, match=r"no width multiplier.*give 1\.0"):
        catalogue.complete("torchvision/resnet18", classes=10, channels=3, width=0.5)


@pytest.mark.parametrize(
    ("name", "image_size", "remedy"),
    [("vgg16", 31, "at least 32"), ("lenet5", 15, "at least 16"), ("torchvision/alexnet", 32, "try 224")],
)
def test_an_image_too_small_is_refused(name: str, image_size: int, remedy: str) -> None:
    with pytest.raises(InvalidInput, match=remedy) as caught:
        catalogue.complete(name, classes=10, channels=3, image_size=image_size)
    assert caught.value.field == "image_size"


@pytest.mark.parametrize(("name", "least"), [("vgg16", 32), ("lenet5", 16), ("cnn", 8), ("resnet18", 8), ("vit", 8)])
def test_the_least_size_runs(name: str, least: int) -> None:
    spec = catalogue.complete(name, classes=2, channels=1, image_size=least, width=0.1)
    assert catalogue.build(spec).eval()(torch.randn(1, 1, least, least)).shape == (1, 2)


@pytest.mark.parametrize("name", OWN)
def test_own_networks_have_no_pretrained_weights(name: str) -> None:
    with pytest.raises(InvalidInput, match="only torchvision's networks have pretrained weights"):
        catalogue.build(catalogue.complete(name, classes=10, channels=3), pretrained=True)


def test_names_begin_with_our_own() -> None:
    names = catalogue.names()
    assert names[: len(OWN)] == OWN
    assert all(name.startswith("torchvision/") for name in names[len(OWN) :])


def test_initial_weights_follow_the_global_seed() -> None:
    spec = catalogue.complete("cnn", classes=3, channels=1)
    torch.manual_seed(5)
    first = catalogue.build(spec).state_dict()
    torch.manual_seed(5)
    second = catalogue.build(spec).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
