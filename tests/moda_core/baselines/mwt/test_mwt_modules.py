from decimal import Decimal
from itertools import combinations

import pytest
import torch

from moda_core.architectures.catalogue import complete
from moda_core.baselines.mwt.kernels import kernel_graph
from moda_core.baselines.mwt.measures import cohesion, coupling, jaccard, kernel_retention
from moda_core.baselines.mwt.modules import (
    Augmentation,
    MaskCounts,
    ModuleMasks,
    count_masks,
    module_masks,
    open_masks,
)
from moda_core.baselines.mwt.training import initial_mwt, mwt_model, mwt_network
from moda_core.data.dataset import Images
from moda_core.data.digits import load_digits
from moda_core.data.images import normalise
from moda_core.errors import Cancelled, Conflict, InvalidInput
from moda_core.specs import InputSpec

LABELS = ("cat", "dog")
DOOR = InputSpec(image_size=8, channels=1, mean=(0.5,), std=(0.25,))


def counts(layers, samples=(10, 10)):
    return MaskCounts({layer: torch.tensor(rows, dtype=torch.int32) for layer, rows in layers.items()}, LABELS, samples)


def kept(modules):
    return {
        label: {layer: mask.int().tolist() for layer, mask in masks.items()} for label, masks in modules.masks.items()
    }


def digits_model(seed=0):
    """Random generators, of which some close masks for some images only."""
    spec = complete("cnn", classes=10, channels=1, width=0.5, image_size=8)
    network = initial_mwt(spec, seed)
    draw = torch.Generator().manual_seed(seed)
    for generator in network.generators.values():
        generator.expand.bias.data.normal_(0, 1, generator=draw)
    return mwt_model(network, spec, tuple("0123456789"), DOOR)


def some_digits(images=60):
    data = load_digits().train
    return Images(data.pixels[:images], data.labels[:images])


# Thresholds.


def test_a_kernel_is_in_a_module_from_the_threshold_on():
    found = module_masks(counts({"x": [[10, 9, 8], [0, 9, 10]], "y": [[9, 0], [9, 9]]}))
    assert kept(found) == {"cat": {"x": [1, 1, 0], "y": [1, 0]}, "dog": {"x": [0, 1, 1], "y": [1, 1]}}
    assert found.lowered == {"cat": {}, "dog": {}}


def test_an_empty_layer_lowers_its_own_threshold_for_its_class_until_it_has_a_kernel():
    # Of cat's 10 images, 7 open kernels 0 and 2 of x: 0.9, 0.85, 0.8 and 0.75 (ceil 7.5 = 8) are too high, 0.7 is not.
    found = module_masks(counts({"x": [[7, 6, 7], [9, 6, 7]], "y": [[9, 8], [9, 8]]}))
    assert kept(found) == {"cat": {"x": [1, 0, 1], "y": [1, 0]}, "dog": {"x": [1, 0, 0], "y": [1, 0]}}
    assert found.lowered == {"cat": {"x": Decimal("0.70")}, "dog": {}}


def test_thresholds_are_exact_decimals():
    """55 of 100 reach 0.55, which is 0.9 - 7 · 0.05; in binary floats 0.55 · 100 is more than 55."""
    found = module_masks(counts({"x": [[55, 54], [100, 0]]}, (100, 100)))
    assert kept(found)["cat"] == {"x": [1, 0]}
    assert found.lowered["cat"] == {"x": Decimal("0.55")}


def test_the_lowest_threshold_is_five_per_cent():
    assert kept(module_masks(counts({"x": [[5, 4], [100, 0]]}, (100, 100))))["cat"] == {"x": [1, 0]}
    with pytest.raises(
        Conflict, match=r"'cat' opens no kernel of layer x .*\(the most open one 4 times in 100 images\)"
    ):
        module_masks(counts({"x": [[4, 4], [100, 0]]}, (100, 100)))


def test_a_class_that_opens_nothing_has_no_module():
    with pytest.raises(Conflict, match="'dog' opens no kernel of layer y"):
        module_masks(counts({"x": [[9], [9]], "y": [[9], [0]]}))


@pytest.mark.parametrize("threshold", ["0", "1.01", "-0.5"])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InvalidInput, match="threshold"):
        module_masks(counts({"x": [[9], [9]]}), Decimal(threshold))


def test_a_class_without_images_is_refused():
    with pytest.raises(InvalidInput, match="dog"):
        module_masks(counts({"x": [[9], [0]]}, (10, 0)))


# Counting.


def test_counts_are_those_of_each_image_by_itself():
    model, data = digits_model(), some_digits()
    network = mwt_network(model).masked(masks=True)
    expected = {layer.name: torch.zeros(10, layer.units) for layer in kernel_graph(model.architecture).layers}
    for pixels, label in zip(data.pixels, data.labels.tolist(), strict=True):
        for layer, mask in network(normalise(pixels[None], DOOR))[1].items():
            expected[layer][label] += mask[0] > 0
    found = count_masks(model, data, batch_size=16)
    assert found.samples == tuple(torch.bincount(data.labels).tolist())
    for layer, count in found.counts.items():
        assert torch.equal(count, expected[layer].int())
    share = torch.cat([count.sum(dim=0) for count in found.counts.values()]) / len(data)
    assert ((share > 0) & (share < 1)).any(), "no mask depends on the image"


def test_augmented_counts_hang_on_the_seed_and_read_the_masks_in_eval_mode():
    model, data = digits_model(), some_digits()
    first, same, other = (count_masks(model, data, Augmentation(crop_padding=2, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first.counts[layer], count) for layer, count in same.counts.items())
    assert not all(torch.equal(first.counts[layer], count) for layer, count in other.counts.items())
    plain = count_masks(model, data, Augmentation(crop_padding=0, seed=1))
    assert all(torch.equal(plain.counts[layer], count) for layer, count in count_masks(model, data).counts.items())


def test_counting_can_be_cancelled():
    with pytest.raises(Cancelled):
        count_masks(digits_model(), some_digits(), cancelled=lambda: True)


# Measures.


def modules(**rows):
    """Two layers of two kernels, from rows of four."""
    masks = {}
    for label, row in rows.items():
        bits = torch.tensor(row, dtype=torch.bool)
        masks[label] = {"x": bits[:2], "y": bits[2:]}
    return ModuleMasks(masks, {label: {} for label in masks})


def test_retention_is_the_share_of_kernels_of_all_layers():
    assert kernel_retention(modules(cat=[1, 1, 1, 0], dog=[0, 1, 0, 1])) == {"cat": 0.75, "dog": 0.5}


def test_coupling_is_the_mean_jaccard_similarity_of_two_modules():
    # cat, dog: 1 / 4; cat, emu: 3 / 4; dog, emu: 2 / 4
    found = coupling(modules(cat=[1, 1, 1, 0], dog=[0, 1, 0, 1], emu=[1, 1, 1, 1]))
    assert found == pytest.approx((1 / 4 + 3 / 4 + 2 / 4) / 3)
    assert coupling(modules(cat=[1, 1, 1, 0])) == 0


def test_cohesion_is_the_mean_jaccard_similarity_of_masks_within_the_module():
    both = modules(cat=[1, 1, 1, 0], dog=[1, 1, 1, 1])
    # Within cat's module: {0, 1}, {1, 2}, {}: pairs 1 / 3, 0, 0; dog: {3}, {3}: 1
    rows = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
    labels = torch.tensor([0, 1, 0, 0, 1])
    passed = [
        ({"y": part[:, 2:], "x": part[:, :2]}, labels[at]) for at in (slice(2), slice(2, 5)) for part in [rows[at]]
    ]
    assert cohesion(both, passed) == pytest.approx({"cat": 1 / 9, "dog": 1.0})


def test_jaccard_equals_a_naive_loop_across_chunks(monkeypatch):
    monkeypatch.setattr("moda_core.baselines.mwt.measures._ROWS_AT_ONCE", 3)
    sets = torch.rand(8, 12, generator=torch.Generator().manual_seed(0)) < 0.4
    sets[5] = False
    similar = [
        float((one & other).sum()) / max(1.0, float((one | other).sum())) for one, other in combinations(sets, 2)
    ]
    assert jaccard(sets) == pytest.approx(sum(similar) / len(similar))


def test_cohesion_of_a_model_equals_a_naive_loop():
    model, data = digits_model(), some_digits()
    found = module_masks(count_masks(model, data), Decimal("0.5"))
    passed = list(open_masks(model, data, batch_size=25))
    expected = {}
    for position, label in enumerate(model.labels):
        opened = [
            {(layer, kernel) for layer in masks for kernel in within(masks[layer][place], found.masks[label][layer])}
            for masks, numbers in passed
            for place in range(len(numbers))
            if numbers[place] == position
        ]
        similar = [len(one & other) / max(1, len(one | other)) for one, other in combinations(opened, 2)]
        expected[label] = sum(similar) / len(similar)
    assert cohesion(found, passed) == pytest.approx(expected)
    assert len(set(expected.values())) > 1


def within(opened, module):
    """The kernels that are open and in the module, one by one."""
    return [kernel for kernel in range(len(module)) if opened[kernel] and module[kernel]]
