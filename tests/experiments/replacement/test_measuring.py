import json
from dataclasses import replace as changed

import pytest
import torch

from experiments.models.decomposition import modular_model
from experiments.models.moda import trained
from experiments.records.result_file import ResultFile
from experiments.replacement import ways
from experiments.replacement.cells import QUESTION, missing
from experiments.replacement.measuring import measure
from experiments.replacement.parts import strong_part, strong_spec, weak_part, weak_spec
from experiments.setup.setting import Setting
from moda_core.baselines.cnnsplitter import patched_scores, public_range, target_range
from moda_core.data.dataset import Dataset, Images, subset
from moda_core.errors import InvalidInput
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network
from moda_core.modularity.replacement import replace
from moda_core.specs import AdaptationSpec
from moda_core.training.evaluation import logits

EPOCHS = 2


def four_classes():
    """Bright quadrants under noise: easy enough that two epochs learn something."""
    draw = torch.Generator().manual_seed(0)
    parts = []
    for each in (40, 12):
        labels = torch.arange(4).repeat(each)
        pixels = torch.randint(0, 90, (len(labels), 1, 16, 16), generator=draw)
        for place, label in enumerate(labels.tolist()):
            row, column = 8 * (label // 2), 8 * (label % 2)
            pixels[place, :, row : row + 8, column : column + 8] += 120
        parts.append(Images(pixels.to(torch.uint8), labels))
    return Dataset(("a", "b", "c", "d"), *parts, mirror=False)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replacement")
    made = Setting(
        name="quadrants",
        source=None,
        model="cnn",
        width=0.25,
        epochs=EPOCHS,
        runs=folder / "runs",
        results=folder / "results",
    )
    made.__dict__["dataset"] = four_classes()
    measure(made, EPOCHS)
    return made


def rows_of(setting, **keys):
    file = ResultFile(setting.result_path(QUESTION))
    return [row for row in file.measured() if all(row.get(key) == value for key, value in keys.items())]


def right(answers, labels, position):
    """Right answers on the target's images and on the others', counted one by one."""
    found = {True: [0, 0], False: [0, 0]}
    for scores, label in zip(answers, labels.tolist(), strict=True):
        counted = found[label == position]
        counted[0] += max(range(len(scores)), key=lambda place: scores[place]) == label
        counted[1] += 1
    return [{"correct": correct, "n": n} for correct, n in (found[True], found[False])]


def test_every_cell_has_every_approach(setting):
    found = {(row["weak"], row["target"], row["approach"], row.get("initial")) for row in rows_of(setting)}
    ways = {("MODA", "identity"), ("MODA", "normal"), ("ST-composed", "identity"), ("ST-composed", "normal")}
    ways |= {("CNNSplitter", None), ("CNNSplitter-public", None)}
    assert found == {(weak, target, *way) for weak in ("overfitted", "underfitted") for target in "ab" for way in ways}
    assert len(rows_of(setting)) == len(found)


def test_rows_count_the_targets_and_the_others_test_images(setting):
    for row in rows_of(setting):
        assert [row[key]["n"] for key in ("tc_before", "tc_after", "non_tc_before", "non_tc_after")] == [12, 12, 24, 24]
        assert 0 < row["module_size"] < 1
        assert row["strong_accuracy"]["n"] == 24
    before = {
        (row["weak"], row["target"], json.dumps([row["tc_before"], row["non_tc_before"]])) for row in rows_of(setting)
    }
    assert len(before) == 4


def cell(setting, kind, target, objective="modular"):
    """The weak model, the module and the images of one cell, as the parts of the product make them."""
    part, strong = weak_part(setting.dataset, target), strong_part(setting.dataset, 0)
    spec = weak_spec(part, kind, EPOCHS, 0)
    weak = trained(setting.runs, spec, part.dataset).model
    run = trained(setting.runs, strong_spec(strong, "cnn", 0.25, EPOCHS, 0, objective), strong.dataset)
    module = compose(modular_model(run, strong.dataset), [target])
    return weak, module, subset(part.dataset.train, spec.fraction, 0), part.dataset.test, strong


@pytest.mark.parametrize(("approach", "objective"), [("MODA", "modular"), ("ST-composed", "standard")])
@pytest.mark.parametrize("initial", ["identity", "normal"])
def test_modas_rows_are_those_of_a_patched_model(setting, approach, objective, initial):
    weak, module, train, test, _ = cell(setting, "overfitted", "b", objective)
    patched = network(replace(weak, module, "b", train, AdaptationSpec(initial=initial)))
    answers = logits(patched, test, patched.inputs, device="cpu").tolist()
    (row,) = rows_of(setting, weak="overfitted", target="b", approach=approach, initial=initial)
    assert [row["tc_after"], row["non_tc_after"]] == right(answers, test.labels, position=2)


def test_cnnsplitters_rows_are_those_of_its_patch_in_both_forms(setting):
    weak, module, _, test, strong = cell(setting, "underfitted", "a")
    ranges = {
        "CNNSplitter": target_range(module, "a", strong.validation, 0),
        "CNNSplitter-public": public_range(module, "a", strong.dataset.train),
    }
    for approach, over in ranges.items():
        answers = patched_scores(weak, module, "a", over, test).tolist()
        (row,) = rows_of(setting, weak="underfitted", target="a", approach=approach)
        assert [row["tc_after"], row["non_tc_after"]] == right(answers, test.labels, position=2)
        assert (row["low"], row["high"]) == pytest.approx((over.low, over.high), rel=1e-5)
    assert ranges["CNNSplitter"] != ranges["CNNSplitter-public"]


def test_measuring_again_measures_nothing(setting):
    content = setting.result_path(QUESTION).read_bytes()
    measure(setting, EPOCHS)
    assert setting.result_path(QUESTION).read_bytes() == content


def elsewhere(setting, folder, rows):
    """The same setting with another result file."""
    made = changed(setting, results=folder)
    made.__dict__["dataset"] = setting.dataset
    made.result_path(QUESTION).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def everything(setting):
    return [json.loads(line) for line in setting.result_path(QUESTION).read_text().splitlines()]


def without_conditions(rows):
    return [{key: value for key, value in row.items() if key != "conditions"} for row in rows]


@pytest.mark.parametrize("torn", [{}, {"approach": "ST-composed", "initial": "normal"}, {"approach": "CNNSplitter"}])
def test_only_what_a_stop_left_out_is_measured_again(setting, tmp_path, torn):
    """Of the cell that was being written, all rows or one."""
    lost = {"weak": "underfitted", "target": "b", **torn}
    kept = [row for row in everything(setting) if any(row.get(key) != value for key, value in lost.items())]
    other = elsewhere(setting, tmp_path, kept)
    assert missing(other, setting.dataset.classes, EPOCHS) == [(0, "underfitted", "b")]
    measure(other, EPOCHS)
    assert without_conditions(rows_of(other, **lost)) == without_conditions(rows_of(setting, **lost))
    assert len(rows_of(other)) == len(rows_of(setting))


@pytest.mark.parametrize("spec", ["spec", "weak_spec", "adaptation_spec"])
def test_rows_of_models_by_other_specs_are_other_rows(setting, tmp_path, spec):
    row = rows_of(setting, weak="overfitted", target="a", approach="MODA", initial="normal")[0]
    other = elsewhere(
        setting, tmp_path, [one | {spec: "another"} if one == row else one for one in everything(setting)]
    )
    measure(other, EPOCHS)
    assert without_conditions(rows_of(other)[len(rows_of(setting)) :]) == without_conditions([row])


def test_rows_name_the_specs_of_the_models_and_where_they_were_trained(setting):
    part, strong = weak_part(setting.dataset, "b"), strong_part(setting.dataset, 0)
    (row,) = rows_of(setting, weak="underfitted", target="b", approach="ST-composed", initial="normal")
    assert row["spec"] == strong_spec(strong, "cnn", 0.25, EPOCHS, 0, "standard").digest()[:16]
    assert row["weak_spec"] == weak_spec(part, "underfitted", EPOCHS, 0).digest()[:16]
    assert row["adaptation_spec"] == AdaptationSpec(initial="normal").digest()[:16]
    assert row["trained_on"]["torch"] == row["weak_trained_on"]["torch"] == torch.__version__
    conditions = everything(setting)[0]
    assert conditions["dataset"] == {"name": "quadrants", "digest": setting.digest[:16], "train": 160, "test": 48}


def test_a_module_without_a_range_has_a_row_that_says_so(setting, tmp_path, monkeypatch):
    def constant(*_arguments, **_named):
        raise InvalidInput("module", "b", "the same logit for all samples", "train longer")

    monkeypatch.setattr(ways, "public_range", constant)
    lost = {"weak": "underfitted", "target": "b", "approach": "CNNSplitter-public"}
    kept = [row for row in everything(setting) if any(row.get(key) != value for key, value in lost.items())]
    other = elsewhere(setting, tmp_path, kept)
    measure(other, EPOCHS)
    (row,) = rows_of(other, **lost)
    assert "the same logit" in row["error"]
    assert "tc_after" not in row
    assert missing(other, setting.dataset.classes, EPOCHS) == []
