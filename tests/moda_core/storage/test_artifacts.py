import hashlib
import json
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from moda_core.architectures import catalogue
from moda_core.errors import Corrupt, NotFound, UnreadableFile
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ActivationCounts, Model, ModularModel, PatchedModel, TrainedModel
from moda_core.specs import InputSpec, canonical_json
from moda_core.storage.artifacts import check_described, decode, encode, encode_counts
from moda_core.storage.manifests import BlobRef, Manifest
from moda_core.storage.tensorfiles import read_header, save_tensors
from moda_core.structure.unitgraph import unit_graph

KINDS = ("trained", "modular", "composed", "module", "patched")


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(request.param)


def written(path: Path, model: Model) -> Path:
    path.write_bytes(encode(model))
    return path


def indices_held(model: ModularModel) -> dict[str, torch.Tensor]:
    """By weight and axis; axes that are whole need no entry."""
    pairs = ((f"{name}:{axis}", kept) for name, axes in model.held.items() for axis, kept in enumerate(axes))
    return {name: kept for name, kept in pairs if kept is not None}


def assert_equal(one: object, other: object) -> None:
    """Field by field, tensors bit for bit."""
    assert type(one) is type(other) or isinstance(one, dict)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert sorted(one) == sorted(other)
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            if name == "held":
                assert_equal(indices_held(one), indices_held(other))
            else:
                assert_equal(getattr(one, name), getattr(other, name))
    else:
        assert one == other


def test_a_file_alone_gives_back_the_model(tmp_path: Path, model: Model) -> None:
    assert_equal(decode(written(tmp_path / "m", model)), model)


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path, model: Model) -> None:
    path = written(tmp_path / "m", model)
    assert encode(decode(path)) == path.read_bytes()


def test_the_library_reads_our_files_with_one_metadata_key_of_canonical_json(tmp_path: Path, model: Model) -> None:
    with safe_open(written(tmp_path / "m", model), framework="pt") as file:
        metadata = file.metadata()
        names = set(file.keys())
    assert list(metadata) == ["moda"]
    assert canonical_json(json.loads(metadata["moda"])) == metadata["moda"]
    assert names == set(read_header(tmp_path / "m").tensors)


def test_a_trained_models_file_is_its_state_dict(tmp_path: Path, trained: TrainedModel) -> None:
    with safe_open(written(tmp_path / "m", trained), framework="pt") as file:
        assert set(file.keys()) == set(trained.weights)


def test_equal_index_lists_are_stored_once_and_whole_axes_not_at_all(tmp_path: Path, composed: ModularModel) -> None:
    header = read_header(written(tmp_path / "m", composed))
    stored = [name for name in header.tensors if name.startswith("index/")]
    held = [indices for axes in composed.held.values() for indices in axes if indices is not None]
    assert len(stored) == len({tuple(indices.tolist()) for indices in held}) < len(held)


def test_bytes_do_not_depend_on_the_order_of_dictionaries(composed: ModularModel) -> None:
    def shuffled(values: dict) -> dict:
        items = list(values.items())
        random.Random(5).shuffle(items)
        return dict(items)

    counts = composed.counts
    other = replace(
        composed,
        weights=shuffled(composed.weights),
        held=shuffled(composed.held),
        counts=replace(counts, counts=shuffled(counts.counts), units=shuffled(counts.units)),
    )
    assert encode(other) == encode(composed)


def test_bytes_do_not_depend_on_memory_layout(trained: TrainedModel) -> None:
    weights = {
        name: w.to(memory_format=torch.channels_last) if w.dim() == 4 else w for name, w in trained.weights.items()
    }
    assert encode(replace(trained, weights=weights)) == encode(trained)


def test_five_processes_write_one_digest(tmp_path: Path, patched: PatchedModel) -> None:
    source = written(tmp_path / "m", patched)
    program = (
        "import sys, hashlib; from pathlib import Path\n"
        "from moda_core.storage.artifacts import decode, encode\n"
        "print(hashlib.sha256(encode(decode(Path(sys.argv[1])))).hexdigest())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(source)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": str(Path.cwd()),
                "TZ": f"UTC{seed}",
                "OMP_NUM_THREADS": "1",
            },
        )
        for seed in range(5)
    ]
    digests = {run.communicate(timeout=120)[0].strip() for run in runs}
    assert digests == {hashlib.sha256(source.read_bytes()).hexdigest()}


def test_a_trained_file_and_a_counts_file_are_a_modular_model(
    tmp_path: Path, trained: TrainedModel, modular: ModularModel
) -> None:
    path = written(tmp_path / "m", trained)
    counts = tmp_path / "c"
    counts.write_bytes(encode_counts(modular))
    assert_equal(decode(path, counts=counts), modular)
    another = replace(modular, threshold=Decimal("0.5"))
    assert_equal(decode(written(path, another), counts=counts), modular)


def test_counts_of_another_model_are_refused(
    tmp_path: Path, trained: TrainedModel, modular: ModularModel, composed: ModularModel
) -> None:
    path = written(tmp_path / "m", replace(trained, labels=("a", "b", "c")))
    counts = tmp_path / "c"
    counts.write_bytes(encode_counts(modular))
    with pytest.raises(UnreadableFile, match="another labels"):
        decode(path, counts=counts)
    with pytest.raises(UnreadableFile, match="beside a composed model"):
        decode(written(path, composed), counts=counts)
    with pytest.raises(UnreadableFile, match="without a model"):
        decode(counts)


def test_tensors_are_mapped_and_changing_them_leaves_the_file_alone(tmp_path: Path, trained: TrainedModel) -> None:
    path = written(tmp_path / "m", trained)
    before = path.read_bytes()
    for weight in decode(path).weights.values():
        weight.zero_()
    assert path.read_bytes() == before


def test_every_altered_byte_of_a_file_is_noticed(tmp_path: Path, composed: ModularModel) -> None:
    path = written(tmp_path / "m", composed)
    whole = path.read_bytes()
    chooser = random.Random(0)
    for place in (*chooser.sample(range(len(whole)), 150), 0, 8, len(whole) - 1):
        altered = bytearray(whole)
        altered[place] ^= 1 << chooser.randrange(8)
        path.write_bytes(altered)
        with pytest.raises((Corrupt, UnreadableFile)):
            decode(path)


def test_altered_tensor_bytes_are_corrupt(tmp_path: Path, trained: TrainedModel) -> None:
    path = written(tmp_path / "m", trained)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(Corrupt, match="differ from the digest inside it"):
        decode(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1, -9])
def test_a_file_that_is_cut_off_is_unreadable(tmp_path: Path, trained: TrainedModel, length: int) -> None:
    path = written(tmp_path / "m", trained)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UnreadableFile):
        decode(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        decode(tmp_path / "absent")


def rewritten(tmp_path: Path, model: Model, *, meta: dict | None = None, tensors: dict | None = None) -> Path:
    """A file with a right digest inside, but other metadata or tensors (None removes one)."""
    path = written(tmp_path / "source", model)
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in header.tensors}
    merged = {name: tensor for name, tensor in (kept | (tensors or {})).items() if tensor is not None}
    described = {name: value for name, value in (dict(header.meta) | (meta or {})).items() if value is not None}
    hostile = tmp_path / "hostile"
    hostile.write_bytes(save_tensors(merged, described))
    return hostile


ANOTHER_CNN = {"name": "cnn", "classes": 3, "channels": 1, "image_size": 16, "width": 0.5}


@pytest.mark.parametrize(
    ("kind", "meta", "reason"),
    [
        ("trained", {"format": 2}, "format 2"),
        ("trained", {"kind": "pickle"}, "'pickle'"),
        ("trained", {"kind": None}, "kind"),
        ("trained", {"extra": 1}, "extra"),
        ("trained", {"labels": ["a", "b"]}, "labels"),
        ("trained", {"labels": ["a", "a", "b"]}, "twice"),
        ("trained", {"labels": "abc"}, "not a list"),
        ("trained", {"labels": [1, 2, 3]}, "not a string"),
        ("trained", {"architecture": ANOTHER_CNN}, "should be"),
        ("trained", {"architecture": ANOTHER_CNN | {"name": "lenet5"}}, "other weights"),
        ("trained", {"architecture": ANOTHER_CNN | {"name": "os.system"}}, "os.system"),
        ("trained", {"architecture": ANOTHER_CNN | {"classes": "3"}}, "classes"),
        ("trained", {"architecture": ANOTHER_CNN | {"name": 5}}, "name"),
        ("trained", {"architecture": ANOTHER_CNN | {"name": {}}}, "name"),
        ("trained", {"architecture": ANOTHER_CNN | {"channels": 1.0}}, "channels"),
        ("trained", {"architecture": ANOTHER_CNN | {"width": "1"}}, "width"),
        ("trained", {"architecture": ANOTHER_CNN | {"width": {}}}, "width"),
        ("trained", {"architecture": ANOTHER_CNN | {"width": 10**400}}, "metadata"),
        ("trained", {"architecture": [1]}, "metadata"),
        ("trained", {"input": {"image_size": 8, "channels": 1, "mean": [0.0], "std": [1.0]}}, "image_size"),
        ("trained", {"input": {"image_size": 16, "channels": 1, "mean": ["0"], "std": [1.0]}}, "mean"),
        ("trained", {"input": {"image_size": 16, "channels": 1, "mean": {}, "std": [1.0]}}, "mean"),
        ("trained", {"a\nb": 1}, r"'a\\nb'"),
        ("trained", {"input": {"image_size": 16, "channels": 3, "mean": [0.0] * 3, "std": [1.0] * 3}}, "channels"),
        ("modular", {"threshold": "1.1"}, "threshold"),
        ("modular", {"samples": [10, 12]}, "samples"),
        ("modular", {"samples": [10, 12, 0]}, "samples"),
        ("modular", {"samples": [1, 1, 1]}, "outside"),
        ("modular", {"rows": [0, 2, 1]}, "rows"),
        ("modular", {"epsilon": -1}, "epsilon"),
        ("modular", {"epsilon": 10**400}, "too large"),
        ("composed", {"rows": [1, 3]}, "rows"),
        ("composed", {"rows": [1]}, "rows"),
        ("composed", {"rows": [0, 1]}, "need more of"),
        ("composed", {"held": {}}, "should be"),
        ("composed", {"held": {"noth\ning": [0]}}, r"other weights: 'noth\\ning'"),
        ("patched", {"label": "horse"}, "label"),
        ("patched", {"label": "bird"}, "not the module of the class"),
        ("patched", {"weak": {"format": 1}}, "lacks"),
    ],
)
def test_a_description_that_does_not_fit_is_unreadable_and_says_why(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, meta: dict, reason: str
) -> None:
    hostile = rewritten(tmp_path, request.getfixturevalue(kind), meta=meta)
    with pytest.raises(UnreadableFile, match=reason):
        decode(hostile)


@pytest.mark.parametrize(
    ("name", "image_size"), [("torchvision/squeezenet1_0", 8), ("torchvision/vit_b_16", 20), ("vgg16", 16)]
)
def test_a_network_that_cannot_take_images_of_its_size_is_refused(
    tmp_path: Path, trained: TrainedModel, name: str, image_size: int
) -> None:
    architecture = {"name": name, "classes": 3, "channels": 1, "image_size": image_size, "width": 1.0}
    rule = {"image_size": image_size, "channels": 1, "mean": [0.5], "std": [0.5]}
    with pytest.raises(UnreadableFile, match="image_size"):
        decode(rewritten(tmp_path, trained, meta={"architecture": architecture, "input": rule}))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=JUNK)
def test_any_value_anywhere_in_the_metadata_is_read_or_unreadable(
    tmp_path: Path, composed: ModularModel, data: st.DataObject, junk: object
) -> None:
    meta = dict(read_header(written(tmp_path / "m", composed)).meta)
    place = data.draw(st.sampled_from(sorted(meta)))
    if isinstance(meta[place], dict) and data.draw(st.booleans()):
        junk = meta[place] | {data.draw(st.sampled_from(sorted(meta[place]))): junk}
    with suppress(UnreadableFile):
        decode(rewritten(tmp_path, composed, meta={place: junk}))


def first(model: Model, prefix: str) -> tuple[str, torch.Tensor]:
    parts = {"counts/": model.counts.counts, "units/": model.counts.units}
    name, tensor = next(iter(parts[prefix].items()))
    return f"{prefix}{name}", tensor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, trained: TrainedModel, value: float) -> None:
    name = next(iter(trained.weights))
    weight = trained.weights[name].clone()
    weight.view(-1)[-1] = value
    with pytest.raises(UnreadableFile, match="NaN or infinite"):
        decode(rewritten(tmp_path, trained, tensors={name: weight}))


def test_tensors_missing_added_or_of_another_form_are_refused_before_loading(
    tmp_path: Path, trained: TrainedModel, modular: ModularModel
) -> None:
    name, weight = next(iter(trained.weights.items()))
    for tensors in ({name: None}, {"more": weight}, {name: weight.double()}, {name: weight[None]}):
        with pytest.raises(UnreadableFile):
            decode(rewritten(tmp_path, trained, tensors=tensors))
    name, counts = first(modular, "counts/")
    for tensors in ({name: None}, {name: counts.long()}, {name: counts[:, 1:]}, {"index/0": torch.arange(2)}):
        with pytest.raises(UnreadableFile):
            decode(rewritten(tmp_path, modular, tensors=tensors))


def test_counts_and_indices_out_of_range_are_refused(
    tmp_path: Path, modular: ModularModel, composed: ModularModel
) -> None:
    name, counts = first(modular, "counts/")
    for wrong in (counts - 1000, counts + 1000):
        with pytest.raises(UnreadableFile, match="outside"):
            decode(rewritten(tmp_path, modular, tensors={name: wrong}))
    name, units = first(composed, "units/")
    indices = next(i for axes in composed.held.values() for i in axes if i is not None)
    stored = read_header(written(tmp_path / "m", composed)).tensors
    for number in (n for n in stored if n.startswith("index/") and stored[n].shape == indices.shape):
        for wrong in (indices.flip(0), indices * 0, indices + 10_000, indices - 10_000):
            with pytest.raises(UnreadableFile, match="ascending"):
                decode(rewritten(tmp_path, composed, tensors={number: wrong}))
    for wrong in (units.flip(0), units + 10_000, units - 2):
        with pytest.raises(UnreadableFile, match="ascending"):
            decode(rewritten(tmp_path, composed, tensors={name: wrong}))


def test_a_composed_file_that_lacks_what_its_units_need_is_refused(tmp_path: Path, composed: ModularModel) -> None:
    name, units = first(composed, "units/")
    with pytest.raises(UnreadableFile, match="need more of"):
        decode(rewritten(tmp_path, composed, tensors={name: units - 1}))
    whole = next(name for name in composed.weights if not any(i is not None for i in composed.held[name]))
    with pytest.raises(UnreadableFile, match="which is not there"):
        decode(rewritten(tmp_path, composed, tensors={whole: None}))


def test_a_model_is_compared_with_its_manifest(trained: TrainedModel) -> None:
    manifest = Manifest(
        kind="trained",
        architecture=trained.architecture,
        labels=trained.labels,
        input=trained.input,
        blobs={"weights": BlobRef("0" * 64, 1)},
    )
    check_described(trained, manifest)
    for other in (
        replace(trained, labels=("x", "y", "z")),
        replace(trained, input=replace(trained.input, std=(0.5,))),
        replace(trained, architecture=replace(trained.architecture, width=1.0)),
    ):
        with pytest.raises(UnreadableFile, match="than its manifest says"):
            check_described(other, manifest)


def test_a_threshold_is_compared_with_the_manifests(modular: ModularModel) -> None:
    manifest = Manifest(
        kind="modular",
        architecture=modular.architecture,
        labels=modular.labels,
        input=modular.input,
        threshold=Decimal("0.5"),
        blobs={"weights": BlobRef("0" * 64, 1)},
    )
    with pytest.raises(UnreadableFile, match="threshold"):
        check_described(modular, manifest)


def test_what_composition_cuts_from_any_of_our_networks_is_read_back(tmp_path: Path) -> None:
    """The check that a cut file holds enough asks for no more than composition keeps."""
    for name in ("lenet5", "vgg16", "resnet18", "mobilenet"):
        architecture = catalogue.complete(name, classes=3, channels=3, width=0.125)
        network = catalogue.build(architecture)
        layers = unit_graph(architecture).layers
        generator = torch.Generator().manual_seed(4)
        counts = {
            layer.name: torch.randint(0, 11, (3, layer.units), generator=generator, dtype=torch.int32)
            for layer in layers
        }
        whole = ModularModel(
            architecture=architecture,
            labels=("a", "b", "c"),
            rows=(0, 1, 2),
            input=InputSpec(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3),
            weights=network.state_dict(),
            counts=ActivationCounts(counts, {layer.name: torch.arange(layer.units) for layer in layers}, (10,) * 3),
            threshold=Decimal("0.8"),
        )
        for labels in (["c"], ["a", "c"]):
            cut = compose(whole, labels)
            assert_equal(decode(written(tmp_path / name, cut)), cut)
            module = compose(decode(tmp_path / name), labels[:1], Decimal(1))
            assert encode(module) == encode(compose(whole, labels[:1], Decimal(1)))
