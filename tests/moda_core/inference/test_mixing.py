"""One forward pass with a mask per sample gives each sample what its composed model gives."""

import itertools
from dataclasses import replace
from decimal import Decimal
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import SIZE, recipes, stack

from benchmarks.proof import LEAST_VARIATION, MOST_DRAWS, MOST_ERROR, enliven, error, settle, variation
from moda_core.errors import Conflict, InvalidInput, NotFound
from moda_core.inference.executables import rewrite_of
from moda_core.inference.folding import fold
from moda_core.inference.forms import candidates
from moda_core.inference.mixing import MixedModel, answers, stacked, subset, whole
from moda_core.inference.regulation import kept_units, regulated
from moda_core.modularity.composition import compose, cut_weights, held_masks
from moda_core.modularity.models import ActivationCounts, ModularModel
from moda_core.modularity.networks import full_network, network
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.masking import MaskedModel
from moda_core.structure.slicing import plan
from moda_core.structure.unitgraph import UnitGraph, unit_graph
from moda_core.training.initial import initial_network

LABELS = ("a", "b", "c", "d")
SUBSETS = [("a",), ("d", "b"), ("c", "b", "a"), LABELS]
TRANSFORMERS = ["vit", "torchvision/swin_t"]
NAMES = ["cnn", "cnn-gelu", "resnet18", "mobilenet", "torchvision/mobilenet_v3_small", *TRANSFORMERS]
PER_SUBSET = 4


def modular(name="cnn", seed=0, share=0.5):
    """Random counts over random weights."""
    size = 16 if name.startswith("cnn") else 64 if "/" in name else 32
    width = 0.25 if name in {"resnet18", "mobilenet"} else 1.0
    architecture = ArchitectureSpec(name=name, classes=len(LABELS), channels=3, image_size=size, width=width)
    draw = torch.Generator().manual_seed(seed)
    layers = unit_graph(architecture).layers
    counts = {
        layer.name: (torch.rand(len(LABELS), layer.units, generator=draw) < share).to(torch.int32) for layer in layers
    }
    held = ActivationCounts(counts, {layer.name: torch.arange(layer.units) for layer in layers}, (1,) * len(LABELS))
    rule = InputSpec(image_size=size, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    weights = initial_network(architecture, seed).state_dict()
    return ModularModel(architecture, LABELS, tuple(range(4)), rule, weights, held, Decimal("0.9"))


def pixels(model, count):
    size, draw = model.input.image_size, torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw).to(torch.uint8)


@cache
def alive(name):
    """A modular model in float64, images, and what each composition says of them: all depend on the image."""
    for seed in range(MOST_DRAWS):
        model = modular(name, seed, 0.8 if "mobilenet" in name else 0.5)
        graph, draw = unit_graph(model.architecture), torch.Generator().manual_seed(seed)
        size = model.input.image_size
        images = torch.randn(PER_SUBSET, 3, size, size, generator=draw).double()
        body = enliven(full_network(model.architecture, model.weights).double(), draw)
        everything = {layer.name: torch.ones(layer.units, dtype=torch.bool) for layer in graph.layers}
        settle(MaskedModel(graph, body, everything, range(len(LABELS))), images)
        model = replace(model, weights=body.state_dict())
        references = [composed_logits(model, labels, images) for labels in SUBSETS]
        if min(map(variation, references)) >= LEAST_VARIATION:
            return model, images, references
    raise AssertionError(f"no draw of {name} depends on the image")


def composed_logits(model, labels, images):
    with torch.inference_mode():
        return network(compose(model, labels)).body(images)


def body_of(model, *, rewrite=fold):
    """The network behind a mixed model, on normalised images in their own type."""
    planned = plan(unit_graph(model.architecture), held_masks(model), model.rows)
    return over_all_units(planned, cut_weights(model, planned.held), rewrite)


def over_all_units(planned, weights, rewrite):
    body, kept = regulated(planned, weights, rewrite=rewrite).program(), kept_units(planned)
    return lambda images, masks: body(images, masks[:, kept].to(images.dtype))


def worst(mixed, model, images, references, order=None):
    """The largest error of any subset when all meet in one batch, each image once per subset."""
    pairs = list(itertools.product(range(len(images)), range(len(SUBSETS))))
    pairs = pairs if order is None else [pairs[place] for place in order]
    chosen = [subset(model, SUBSETS[which]) for _, which in pairs]
    with torch.inference_mode():
        logits = mixed(images[[image for image, _ in pairs]], stacked(chosen))
    found = [torch.empty_like(reference) for reference in references]
    for (image, which), row in zip(pairs, answers(logits, chosen), strict=True):
        found[which][image] = row
    return max(map(error, found, references))


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_has_its_composed_models_logits(name):
    model, images, references = alive(name)
    mixed = body_of(model)
    assert worst(body_of(model, rewrite=rewrite_of("plain")), model, images, references) <= MOST_ERROR
    assert worst(mixed, model, images, references) <= MOST_ERROR
    order = torch.randperm(len(images) * len(SUBSETS)).tolist()
    assert worst(mixed, model, images, references, order) <= MOST_ERROR


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vit"])
def test_a_composed_model_mixes_its_own_compositions(name):
    model, images, _ = alive(name)
    parent = compose(model, ["d", "c", "b"])
    inner = [("b",), ("d", "c"), ("c", "b", "d")]
    chosen = [subset(parent, labels) for labels in inner]
    mixed = body_of(parent)
    with torch.inference_mode():
        logits = mixed(images.repeat_interleave(3, dim=0), stacked(chosen * len(images)))
    rows = answers(logits, chosen * len(images))
    for which, labels in enumerate(inner):
        assert error(torch.stack(rows[which::3]), composed_logits(model, labels, images)) <= MOST_ERROR
    assert MixedModel(parent).size_bytes < MixedModel(model).size_bytes


def test_a_swap_of_two_masks_is_caught():
    model, images, references = alive("resnet18")
    body = body_of(model)

    def swapped(image, masks):
        return body(image, masks[[1, 0, *range(2, len(masks))]])

    assert worst(swapped, model, images, references) > MOST_ERROR


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_a_layer_that_forgets_its_mask_is_caught(name):
    model, images, references = alive(name)
    body, start = body_of(model), 0
    for layer in unit_graph(model.architecture).layers:
        columns = slice(start, start := start + layer.units)

        def forgetful(image, masks, columns=columns):
            masks[:, columns] = True
            return body(image, masks)

        assert worst(forgetful, model, images, references) > MOST_ERROR, layer.name


def test_whole_samples_have_the_full_models_logits_beside_others():
    model = modular("resnet18")
    images = pixels(model, 3)
    chosen = [whole(model), subset(model, ["b", "a"]), whole(model)]
    with torch.inference_mode():
        rows = answers(MixedModel(model)(images, stacked(chosen)), chosen)
        expected = network(model)(images)
        cut = network(compose(model, ["a", "b"]))(images)
    assert torch.allclose(torch.stack([rows[0], rows[2]]), expected[[0, 2]], atol=1e-5)
    assert torch.allclose(rows[1], cut[1], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", candidates("cpu"))
def test_masks_of_ones_change_nothing(name, form):
    if form == "onnxruntime" and name in TRANSFORMERS:
        pytest.skip("it has operators that are not lowered")
    model = modular(name)
    images = pixels(model, 2)
    with torch.inference_mode():
        expected = network(model)(images)
    assert torch.allclose(MixedModel(model, form)(images, stacked([whole(model)] * 2)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif("packed" not in candidates("cpu"), reason="needs a torch with oneDNN")
@pytest.mark.parametrize("name", ["cnn", "resnet18", "mobilenet"])
def test_packed_each_sample_has_its_own_mask(name):
    model, images = modular(name), pixels(modular(name), len(SUBSETS))
    masks = stacked([subset(model, labels) for labels in SUBSETS])
    folded, packed = MixedModel(model), MixedModel(model, "packed")
    assert any(one.is_mkldnn for one in packed._run.buffers())
    assert torch.allclose(packed(images, masks), folded(images, masks), atol=1e-5, rtol=1e-4)


def test_in_bfloat16_the_answers_are_near():
    model, images = modular("resnet18"), pixels(modular("resnet18"), 4)
    masks = stacked([subset(model, labels) for labels in SUBSETS])
    exact, near = MixedModel(model)(images, masks), MixedModel(model, "bf16")(images, masks)
    assert near.dtype == torch.float32
    assert (exact - near).abs().max() < 0.05 * exact.abs().max()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipes(), st.floats(0, 1), st.integers(0, 2**31), st.sampled_from(["plain", "folded"]))
def test_random_networks_agree_with_the_masked_one_sample_by_sample(recipe, keep, seed, form):
    """Alive or not, with what is overwritten in place, forked, read twice or constant; also where the network is cut."""
    draw = torch.Generator().manual_seed(seed)
    body = stack(*recipe).double().eval()
    graph = UnitGraph.trace(body, (3, SIZE, SIZE))
    images = torch.randn(3, 3, SIZE, SIZE, generator=draw).double()
    held = {layer.name: torch.rand(layer.units, generator=draw) < keep for layer in graph.layers}
    every = [
        {name: mask & (torch.rand(len(mask), generator=draw) < 0.5) for name, mask in held.items()} for _ in images
    ]
    planned = plan(graph, held, [0, 2])
    weights = {name: gathered(body.state_dict()[name], axes) for name, axes in planned.held.items()}
    masks = torch.stack([torch.cat([one[layer.name] for layer in graph.layers]) for one in every])
    with torch.inference_mode():
        found = over_all_units(planned, weights, rewrite_of(form))(images, masks)
        for image, row, one in zip(images, found, every, strict=True):
            expected = MaskedModel(graph, body, one, [0, 2]).eval()(image[None])[0]
            assert torch.allclose(row, expected, rtol=1e-9, atol=1e-9)


def gathered(weight, axes):
    for axis, kept in enumerate(axes):
        if kept is not None:
            weight = weight.index_select(axis, torch.from_numpy(kept))
    return weight


def test_what_a_layer_reads_elsewhere_too_is_not_overwritten():
    """By hand: x + relu(x), the unit masked in one sample."""

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(1, 1, 1), torch.nn.Linear(1, 1)

        def forward(self, x):
            y = self.conv(x)
            return self.fc((y + torch.relu(y)).flatten(1))

    body = Twice()
    with torch.no_grad():
        for part, weight in ((body.conv, 1.0), (body.fc, 1.0)):
            part.weight.fill_(weight)
            part.bias.zero_()
    graph = UnitGraph.trace(body, (1, 1, 1))
    planned = plan(graph, {layer.name: torch.tensor([True]) for layer in graph.layers}, [0])
    mixed = over_all_units(planned, body.state_dict(), fold)
    with torch.inference_mode():
        found = mixed(torch.tensor([-3.0, 2.0, 2.0]).reshape(3, 1, 1, 1), torch.tensor([[True], [True], [False]]))
    assert found.flatten().tolist() == [-3.0, 4.0, 2.0]


def test_a_subset_is_small_and_in_the_models_order():
    model = modular("resnet18")
    one = subset(model, ["d", "a"])
    assert (one.labels, one.columns) == (("a", "d"), (0, 3))
    assert one.size_bytes == len(one.mask) == sum(layer.units for layer in unit_graph(model.architecture).layers)
    assert one.mask.any()
    assert not one.mask.all()


def test_subsets_refuse_what_composition_refuses():
    model = modular()
    with pytest.raises(NotFound, match="z"):
        subset(model, ["a", "z"])
    with pytest.raises(InvalidInput):
        subset(model, [])
    with pytest.raises(Conflict, match="threshold"):
        subset(compose(model, ["a", "b"]), ["a"], Decimal("0.5"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", ["folded", "captured"])
def test_on_cuda_the_answers_are_the_same(form):
    model, images = modular("resnet18"), pixels(modular("resnet18"), 4)
    chosen = [subset(model, labels) for labels in SUBSETS]
    there = MixedModel(model, form, "cuda")
    for order in ([0, 1, 2, 3], [3, 1], [2, 0, 1]):
        masks = [chosen[place] for place in order]
        found = there(images[order].cuda(), stacked(masks, "cuda")).cpu()
        assert torch.allclose(found, MixedModel(model)(images[order], stacked(masks)), atol=1e-4)
