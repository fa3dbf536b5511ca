"""Composed networks against the whole network with hooks that mask its outputs, which know nothing of slicing."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.composition import (
    compose_mwt,
    compose_with_head,
    mwt_plan,
    mwt_size,
    union_masks,
    whole_mwt,
)
from moda_core.baselines.mwt.kernels import kernel_graph
from moda_core.baselines.mwt.measures import parameter_measures
from moda_core.baselines.mwt.modules import ModuleMasks
from moda_core.baselines.mwt.training import MwtModel, initial_mwt, mwt_model, mwt_network
from moda_core.errors import InvalidInput, NotFound
from moda_core.specs import InputSpec
from moda_core.structure.masking import MaskedModel

LABELS = ("a", "b", "c", "d", "e")
NETWORKS = [("resnet18", 0.125), ("vgg16", 0.0625), ("mobilenet", 0.125), ("cnn", 0.5), ("lenet5", 1.0)]
MOST_ERROR = 1e-9
LEAST_VARIATION = 0.01


class Case:
    """A network in float64 whose composed logits vary over images, with random modules of its classes.

    Batch norms have statistics, and constants that would hide a mistake random numbers, under the masks.
    """

    def __init__(self, name, width, keep=0.5, soft=False):
        self.draw = torch.Generator().manual_seed(0)
        self.soft = soft
        size = {"vgg16": 32, "lenet5": 16}.get(name, 8)
        spec = complete(name, classes=len(LABELS), channels=1, width=width, image_size=size)
        self.images = torch.randn(12, 1, spec.image_size, spec.image_size, generator=self.draw, dtype=torch.float64)
        rule = InputSpec(image_size=spec.image_size, channels=1, mean=(0.5,), std=(0.25,))
        for seed in range(50):
            self.network = initial_mwt(spec, seed).double().eval()
            self.enliven()
            layers = self.network.graph.layers
            masks = {label: {layer.name: self.mask(layer.units, keep) for layer in layers} for label in LABELS}
            self.modules = ModuleMasks(masks, {label: {} for label in LABELS})
            self.settle()
            reference = self.reference(LABELS[1::2])
            if reference.std(0).max() >= LEAST_VARIATION * reference.abs().max():
                self.model = mwt_model(self.network, spec, LABELS, rule)
                return
        raise AssertionError("no network whose logits depend on the image")

    def mask(self, units, keep):
        mask = torch.rand(units, generator=self.draw) < keep
        mask[int(torch.randint(units, (), generator=self.draw))] = True
        return mask

    def enliven(self):
        for name, parameter in self.network.named_parameters():
            if parameter.dim() == 1:
                parameter.data.normal_(float("bias" not in name), 0.3, generator=self.draw)

    def settle(self):
        """Statistics from a pass under the masks of the composition that is looked at."""
        norms = [part for part in self.network.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        self.reference(LABELS[1::2])
        for norm in norms:
            norm.eval()

    def reference(self, labels):
        """Logits of some classes under hard masks, times soft ones where these are kept."""
        masks, hooks, inputs = union_masks(self.modules, labels), [], {}
        for layer, node in self.network.graph.layer_nodes.items():
            part = self.network.network.get_submodule(node.target)
            convolution = part
            if not isinstance(part, nn.Conv2d):
                convolution = self.network.network.get_submodule(node.args[0].target)

            def remember(_part, given, name=layer.name):
                inputs[name] = given[0].mean((2, 3))

            def multiply(_part, _given, output, name=layer.name):
                mask = masks[name].double()
                if self.soft:
                    mask = mask * self.network.generators[name](inputs[name])
                return output * mask.expand(len(output), -1)[:, :, None, None]

            hooks += [convolution.register_forward_pre_hook(remember), part.register_forward_hook(multiply)]
        with torch.no_grad():
            logits = self.network.network(self.images)
        for hook in hooks:
            hook.remove()
        return logits[:, [LABELS.index(label) for label in labels]]


def error(found, reference):
    return float((found.detach() - reference).abs().max() / reference.std(0).max())


@pytest.mark.parametrize(("name", "width"), NETWORKS)
@pytest.mark.parametrize("soft", [False, True], ids=["dropped", "kept"])
def test_a_composed_network_is_the_masked_one(name, width, soft):
    case = Case(name, width, soft=soft)
    labels = LABELS[1::2]
    composed = compose_mwt(case.model, case.modules, labels[::-1], keep_generators=soft)
    assert composed.labels == labels
    found, reference = composed.body(case.images), case.reference(labels)
    assert error(found, reference) <= MOST_ERROR
    size = mwt_size(case.model, case.modules, labels, keep_generators=soft)
    assert size.kept_parameters == sum(parameter.numel() for parameter in composed.parameters())
    assert size.kept_parameters < sum(parameter.numel() for parameter in case.network.parameters())
    assert size.original_parameters == sum(parameter.numel() for parameter in case.network.network.parameters())


@pytest.mark.parametrize(("name", "width"), NETWORKS[:3])
def test_the_projects_own_reference_agrees(name, width):
    case = Case(name, width)
    labels = LABELS[1::2]
    masked = MaskedModel(case.network.graph, case.network.network, union_masks(case.modules, labels), [1, 3]).eval()
    with torch.inference_mode():
        assert error(masked(case.images), case.reference(labels)) <= MOST_ERROR


@pytest.mark.parametrize("soft", [False, True], ids=["dropped", "kept"])
def test_mistakes_show(soft):
    """The comparison can fail: one row of one batch norm, or the stem, is enough."""
    for broken in ("stages.1.0.bn1.bias", "conv1.weight"):
        case = Case("resnet18", 0.125, soft=soft)
        reference = case.reference(LABELS)
        weights = dict(case.model.weights)
        weights[broken] = weights[broken].roll(1, 0) + 0.1
        model = MwtModel(case.model.architecture, LABELS, case.model.input, weights, case.model.generators)
        found = compose_mwt(model, case.modules, LABELS, keep_generators=soft).body(case.images)
        assert error(found, reference) > 1e-3


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("soft", [False, True], ids=["dropped", "kept"])
def test_operations_are_those_that_torch_counts(head, soft):
    case = Case("resnet18", 0.125)
    labels = ["b", "c"]
    if head:
        body = compose_with_head(case.model, case.modules, labels, 0, keep_generators=soft).double().eval()
    else:
        body = compose_mwt(case.model, case.modules, labels, keep_generators=soft).body
    with FlopCounterMode(display=False) as counter:
        body(case.images[:1])
    size = mwt_size(case.model, case.modules, labels, head=head, keep_generators=soft)
    assert size.kept_flops == counter.get_total_flops()
    assert size.kept_parameters == sum(parameter.numel() for parameter in body.parameters())
    assert size.kept_flops < size.original_flops


def test_only_the_first_fully_connected_layer_loses_columns():
    case = Case("vgg16", 0.0625)
    held = mwt_plan(case.model, case.modules, ["a"]).held
    shapes = {name: tuple(None if axis is None else len(axis) for axis in axes) for name, axes in held.items()}
    assert shapes["features.0.weight"][1:] in {(), (None,), (None, None, None)}
    last = [layer.name for layer in case.network.graph.layers][-1]
    columns = int(case.modules.masks["a"][last].sum())
    assert shapes["classifier.0.weight"] == (None, columns)
    assert shapes["classifier.3.weight"] == ()
    assert shapes["classifier.6.weight"][0] == 1


def test_the_whole_model_is_the_network_under_its_generators():
    case = Case("resnet18", 0.125)
    answering = whole_mwt(case.model)
    assert answering.labels == LABELS
    assert torch.equal(answering.body(case.images), mwt_network(case.model).masked()(case.images))


def test_all_kernels_and_classes_give_the_whole_model_back():
    case = Case("resnet18", 0.125)
    every = {layer.name: torch.ones(layer.units, dtype=torch.bool) for layer in case.network.graph.layers}
    modules = ModuleMasks(dict.fromkeys(LABELS, every), {label: {} for label in LABELS})
    soft = compose_mwt(case.model, modules, LABELS, keep_generators=True)
    whole = whole_mwt(case.model).body(case.images)
    torch.testing.assert_close(soft.body(case.images), whole, rtol=1e-10, atol=1e-10)
    size = mwt_size(case.model, modules, LABELS)
    assert (size.kept_parameters, size.kept_flops) == (size.original_parameters, size.original_flops)


def test_a_head_is_new_and_what_lies_under_it_is_a_copy():
    case = Case("cnn", 0.5)
    first, same, other = (compose_with_head(case.model, case.modules, ["d", "b"], seed) for seed in (0, 0, 1))
    body = compose_mwt(case.model, case.modules, LABELS[1::2])
    first.eval()
    found = first[0](case.images)
    assert found.shape == (12, len(LABELS))
    assert error(found[:, [1, 3]], body.body(case.images)) <= MOST_ERROR
    assert first[2].weight.shape == (2, len(LABELS))
    assert torch.equal(first[2].weight, same[2].weight)
    assert not torch.equal(first[2].weight, other[2].weight)
    before = {name: tensor.clone() for name, tensor in case.model.weights.items()}
    with torch.no_grad():
        for parameter in first.parameters():
            assert parameter.requires_grad
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.model.weights.items())


def test_sizes_and_overlaps_are_those_of_plans_compared_element_by_element():
    case = Case("cnn", 0.5)
    found = parameter_measures(case.model, case.modules)
    names = kernel_graph(case.model.architecture).parameter_names
    kept = {label: elements(case, label, names) for label in LABELS}
    whole = sum(tensor.numel() for name, tensor in case.model.weights.items() if name in names)
    for label in LABELS:
        assert found.sizes[label] == pytest.approx(len(kept[label]) / whole)
    assert found.overlaps["a"]["c"] == pytest.approx(len(kept["a"] & kept["c"]) / whole)
    printed = parameter_measures(case.model, case.modules, drop=False)
    assert all(printed.sizes[label] >= found.sizes[label] for label in LABELS)


def elements(case, label, names):
    """Every parameter element that a module holds, as (name, flat place)."""
    found = set()
    for name, axes in mwt_plan(case.model, case.modules, [label]).held.items():
        if name not in names:
            continue
        places = torch.arange(case.model.weights[name].numel()).reshape(case.model.weights[name].shape)
        for axis, kept in enumerate(axes):
            if kept is not None:
                places = places.index_select(axis, torch.from_numpy(kept))
        found |= {(name, place) for place in places.flatten().tolist()}
    return found


def test_unknown_and_repeated_classes_are_refused():
    case = Case("cnn", 0.5)
    with pytest.raises(NotFound, match="the model has a, b, c, d, e"):
        compose_mwt(case.model, case.modules, ["z"])
    with pytest.raises(InvalidInput):
        compose_mwt(case.model, case.modules, ["a", "a"])
