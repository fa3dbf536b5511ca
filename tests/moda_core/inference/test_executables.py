"""Executables of every kind of model: they answer as the plain network does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import torch

from moda_core.errors import InvalidInput
from moda_core.inference.capture import BATCH_SIZES
from moda_core.inference.executables import executable, reference
from moda_core.inference.forms import candidates
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, ModularModel, PatchedModel, TrainedModel
from moda_core.modularity.networks import network
from moda_core.specs import ArchitectureSpec, InputSpec
from moda_core.structure.unitgraph import unit_graph
from moda_core.training.initial import initial_network

LABELS = ("a", "b", "c", "d")


def modular(name="resnet18", size=32, labels=LABELS):
    width = 0.25 if name in {"vgg16", "resnet18", "mobilenet"} else 1.0
    architecture = ArchitectureSpec(name=name, classes=len(labels), channels=3, image_size=size, width=width)
    draw = torch.Generator().manual_seed(4)
    counts = {
        layer.name: (torch.rand(len(labels), layer.units, generator=draw) < 0.5).to(torch.int32)
        for layer in unit_graph(architecture).layers
    }
    units = {layer: torch.arange(count.shape[1]) for layer, count in counts.items()}
    rule = InputSpec(image_size=size, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    weights = initial_network(architecture, 3).state_dict()
    held = ActivationCounts(counts=counts, units=units, samples=(1,) * len(labels))
    return ModularModel(architecture, labels, tuple(range(len(labels))), rule, weights, held, Decimal("0.9"))


def trained(model):
    return TrainedModel(model.architecture, model.labels, model.input, model.weights)


def patched():
    weak, strong = modular("resnet18", 32), compose(modular("cnn", 16), ["b"])
    draw = torch.Generator().manual_seed(1)
    return PatchedModel(trained(weak), strong, "b", torch.randn(4, 4, generator=draw), torch.randn(4, generator=draw))


def pixels(asked, count=5):
    draw = torch.Generator().manual_seed(5)
    return tuple(
        torch.randint(0, 256, (count, rule.channels, rule.image_size, rule.image_size), generator=draw).to(torch.uint8)
        for rule in asked.inputs
    )


MODELS = {
    "trained": lambda: trained(modular()),
    "modular": modular,
    "composed": lambda: compose(modular(), ["a", "c"]),
    "one class": lambda: compose(modular("mobilenet"), ["d"]),
    "composed twice": lambda: compose(compose(modular("vgg16"), ["a", "b", "d"]), ["d", "a"]),
    "patched": patched,
}


@pytest.mark.parametrize("form", candidates("cpu"))
@pytest.mark.parametrize("kind", MODELS)
def test_executables_answer_as_the_network_does(kind, form):
    model = MODELS[kind]()
    found, plain = executable(model, form), network(model)
    assert (found.labels, found.inputs, found.form) == (plain.labels, plain.inputs, form)
    images = pixels(found)
    with torch.inference_mode():
        expected = plain(*images)
    answer = found(*images)
    assert answer.dtype == torch.float32
    assert torch.allclose(answer, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", MODELS)
def test_the_reference_is_the_plain_network_in_float64(kind):
    model = MODELS[kind]()
    plain, twin = network(model), reference(model)
    images = pixels(plain)
    with torch.inference_mode():
        exact, expected = twin(*images), plain(*images)
    assert exact.dtype == torch.float64
    assert torch.allclose(exact.float(), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("form", candidates("cpu", ["bf16"]))
@pytest.mark.parametrize("kind", ["trained", "composed", "patched"])
def test_building_and_calling_leaves_the_model_as_it_was(kind, form):
    model = MODELS[kind]()
    whole = model.weak if isinstance(model, PatchedModel) else model
    before = {name: weight.clone() for name, weight in whole.weights.items()}
    built = executable(model, form)
    built(*pixels(built))
    assert whole.weights.keys() == before.keys()
    assert all(torch.equal(whole.weights[name], kept) for name, kept in before.items())
    assert all(whole.weights[name].dtype == kept.dtype for name, kept in before.items())


def test_bfloat16_answers_nearly_alike_in_less_memory():
    model = compose(modular(), ["a", "c"])
    exact, coarse = executable(model), executable(model, "bf16")
    images = pixels(exact)
    expected = exact(*images)
    assert coarse(*images).dtype == torch.float32
    assert float((coarse(*images) - expected).abs().max()) < 0.2 * float(expected.abs().max())
    assert coarse.size_bytes < 0.6 * exact.size_bytes


@pytest.mark.parametrize("form", candidates("cpu"))
@pytest.mark.parametrize("kind", ["trained", "composed"])
def test_an_empty_batch_has_no_answers(kind, form):
    asked = executable(MODELS[kind](), form)
    assert asked(*pixels(asked, 0)).shape == (0, len(asked.labels))


@pytest.mark.skipif("packed" not in candidates("cpu"), reason="needs a torch with oneDNN")
@pytest.mark.parametrize("kind", ["trained", "patched"])
def test_packed_weights_are_counted_as_what_they_replace(kind):
    model = MODELS[kind]()
    folded, packed = executable(model), executable(model, "packed")
    assert any(one.is_mkldnn for one in packed._run.buffers())
    assert packed.size_bytes == folded.size_bytes


def test_one_thread_asks_while_another_builds():
    model = modular()
    asked = executable(model)
    images = pixels(asked)
    expected, wrong = asked(*images), []

    def build():
        for labels in (["a"], ["b", "c"], ["a", "d"], ["b"], ["a", "b", "c"]):
            executable(compose(model, labels))

    def ask():
        while builder.is_alive():
            if not torch.equal(asked(*images), expected):
                wrong.append(1)

    builder = threading.Thread(target=build)
    askers = [threading.Thread(target=ask) for _ in range(2)]
    builder.start()
    for thread in askers:
        thread.start()
    for thread in (builder, *askers):
        thread.join()
    assert not wrong


def test_graphs_of_kernels_are_refused_where_there_is_no_gpu():
    with pytest.raises(InvalidInput, match="form"):
        executable(modular(), "captured", "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")
@pytest.mark.parametrize("kind", ["composed", "patched"])
def test_captured_graphs_answer_batches_of_any_size(kind):
    model = MODELS[kind]()
    plain, captured = executable(model, "folded", "cuda"), executable(model, "captured", "cuda")
    for count in (1, 3, 32, 33):
        images = pixels(plain, count)
        assert torch.allclose(captured(*images), plain(*images), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")
def test_the_memory_of_captured_graphs_is_counted():
    model = modular()
    folded, captured = executable(model, "folded", "cuda"), executable(model, "captured", "cuda")
    given = sum(BATCH_SIZES) * 3 * 32 * 32  # pixels, a byte each
    assert captured.size_bytes > folded.size_bytes + given


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA")
def test_models_are_captured_from_several_threads_at_once():
    model = modular()
    plain = executable(model, "folded", "cuda")
    images = pixels(plain)
    expected = plain(*images)
    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(lambda _: executable(model, "captured", "cuda"), range(6)))
    assert all(torch.allclose(captured(*images), expected, atol=1e-4) for captured in made)
