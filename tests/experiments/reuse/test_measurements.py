"""Reuse of a small digits model, against the masked reference, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from experiments.models.decomposition import modular_model
from experiments.models.evaluation import Evaluation
from experiments.models.moda import Run, trained
from experiments.records.result_file import ResultFile, Row
from experiments.reuse.composers import ModuleComposer
from experiments.reuse.measurements import Reuse
from experiments.reuse.recording import Recorder
from experiments.reuse.subtasks import Subtask, drawn, subtasks
from experiments.setup.setting import Setting
from moda_core.data.images import fit, normalise
from moda_core.errors import TrainingFailure
from moda_core.modularity.composition import composition_masks
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import full_network
from moda_core.structure.masking import MaskedModel
from moda_core.structure.unitgraph import unit_graph

TAU = Decimal("0.9")
TASKS = drawn(subtasks(10), 8)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(
        name="digits",
        source=None,
        model="cnn",
        width=0.5,
        epochs=2,
        runs=tmp_path_factory.mktemp("runs"),
        images_per_class=20,
    )


@pytest.fixture(scope="module")
def run(setting: Setting) -> Run:
    return trained(setting.runs, setting.spec(0), setting.dataset)


@pytest.fixture(scope="module")
def model(setting: Setting, run: Run) -> ModularModel:
    return modular_model(run, setting.dataset)


@pytest.fixture
def evaluation(setting: Setting, run: Run) -> Evaluation:
    return Evaluation(setting.dataset.test, run.model.input, 10, per_class=setting.images_per_class)


@pytest.fixture(autouse=True)
def nothing_measured(run: Run) -> None:
    (run.place / "reuse.jsonl").unlink(missing_ok=True)


def measured(
    run: Run, model: ModularModel, evaluation: Evaluation, tasks: Sequence[Subtask], threshold: Decimal
) -> list[Row]:
    return Reuse(run.place, evaluation).measure(ModuleComposer(model, run.digest, threshold), tasks, "reuse")


def naive(setting: Setting, model: ModularModel, task: Subtask, threshold: Decimal) -> dict[str, int]:
    """Right answers of the full network under its masks, over the first images of each class."""
    graph = unit_graph(model.architecture)
    masks = composition_masks(model, [model.labels[label] for label in task], threshold)
    masked = MaskedModel(graph, full_network(model.architecture, model.weights), masks, task)
    test, correct, n = setting.dataset.test, 0, 0
    for place, label in enumerate(task):
        mine = test.pixels[test.labels == label][:20]
        with torch.inference_mode():
            answers = masked(normalise(fit(mine, model.input), model.input)).argmax(1)
        correct, n = correct + int((answers == place).sum()), n + len(mine)
    return {"correct": correct, "n": n}


@pytest.mark.parametrize("threshold", [TAU, Decimal("0.3")])
def test_composed_models_are_as_good_as_the_masked_one(
    setting: Setting, run: Run, model: ModularModel, evaluation: Evaluation, threshold: Decimal
) -> None:
    rows = measured(run, model, evaluation, TASKS, threshold)
    assert [tuple(row["classes"]) for row in rows] == list(TASKS)
    for row, task in zip(rows, TASKS, strict=True):
        assert row["accuracy"] == naive(setting, model, task, threshold)
        assert row["kept_parameters"] <= row["kept_parameters_undropped"] <= row["original_parameters"]
        assert row["kept_flops"] <= row["kept_flops_undropped"] <= row["original_flops"]
    assert len({row["accuracy"]["correct"] / row["accuracy"]["n"] for row in rows}) > 1


def test_at_threshold_nought_all_classes_give_back_the_whole_model(
    run: Run, model: ModularModel, evaluation: Evaluation
) -> None:
    (row,) = measured(run, model, evaluation, [tuple(range(10))], Decimal(0))
    assert row["accuracy"] == row["whole"]
    assert row["kept_parameters"] == row["original_parameters"]
    assert row["kept_flops"] == row["original_flops"]


def test_a_stopped_measurement_goes_on_and_measures_nothing_twice(
    run: Run, model: ModularModel, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(run, model, evaluation, TASKS, TAU)
    (run.place / "reuse.jsonl").unlink()
    correct, calls = evaluation.correct, 0

    def stops(*arguments: object) -> dict[str, int]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return correct(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "correct", stops)
    with pytest.raises(KeyboardInterrupt):
        measured(run, model, evaluation, TASKS, TAU)
    with (run.place / "reuse.jsonl").open("ab") as file:
        file.write(b'{"torn": ')
    rows = measured(run, model, evaluation, TASKS, TAU)
    kept = ResultFile(run.place / "reuse.jsonl").measured()
    assert calls == 4 + 5
    assert without_conditions(rows) == without_conditions(whole) == without_conditions(kept)


def test_every_question_has_what_one_has_measured(run: Run, model: ModularModel, evaluation: Evaluation) -> None:
    measured(run, model, evaluation, TASKS, TAU)
    size = (run.place / "reuse.jsonl").stat().st_size
    measured(run, model, evaluation, TASKS[:3], TAU)
    assert (run.place / "reuse.jsonl").stat().st_size == size
    measured(run, model, evaluation, TASKS[:3], Decimal("0.5"))
    assert len(ResultFile(run.place / "reuse.jsonl").measured()) == len(TASKS) + 3


def test_rows_of_before_are_found_and_get_what_they_lack_when_a_question_takes_them(
    setting: Setting, run: Run, tmp_path: Path
) -> None:
    old = {"conditions": "0", "model": run.digest, "threshold": "0.9", "images_per_class": 20, "classes": [0, 1]}
    old |= {"accuracy": {"correct": 1, "n": 40}, "whole": {"correct": 2, "n": 40}}
    ResultFile(run.place / "reuse.jsonl").extend([{"kind": "conditions", "id": "0", "threads": 7}, old])
    file = ResultFile(tmp_path / "question.jsonl")
    file.begin(setting.invocation())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.reuse.recording.run_of", lambda *_: run)
        Recorder(setting, file).composed("MODA", 0, TAU, [(0, 1)])
    stated, own, row, modules = file.rows()
    assert (stated["threads"], own["dataset"]["name"]) == (7, "digits")
    assert row == {"kind": "reuse", "approach": "MODA", "seed": 0, "spec": setting.spec(0).digest()[:16], **old}
    assert (modules["kind"], modules["reuse_tasks"]) == ("modules", 0)


def test_a_composition_that_cannot_be_trained_is_recorded_once(
    run: Run, model: ModularModel, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    composer, composed = ModuleComposer(model, run.digest, TAU), ModuleComposer.composed

    def fails(self: ModuleComposer, task: Subtask) -> object:
        if task == TASKS[1]:
            raise TrainingFailure("the loss was no longer finite", "lower the learning rate")
        return composed(self, task)

    monkeypatch.setattr(ModuleComposer, "composed", fails)
    rows = Reuse(run.place, evaluation).measure(composer, TASKS, "reuse")
    assert [("error" in row, "accuracy" in row) for row in rows] == [
        (task == TASKS[1], task != TASKS[1]) for task in TASKS
    ]
    size = (run.place / "reuse.jsonl").stat().st_size
    Reuse(run.place, evaluation).measure(composer, TASKS, "reuse")
    assert (run.place / "reuse.jsonl").stat().st_size == size


def test_seconds_add_up_to_the_time_of_all(run: Run, model: ModularModel, evaluation: Evaluation) -> None:
    begun = time.perf_counter()
    rows = measured(run, model, evaluation, TASKS, TAU)
    whole = time.perf_counter() - begun
    assert 0.5 * whole < sum(row["seconds"] for row in rows) <= whole


def test_other_images_are_another_measurement(
    setting: Setting, run: Run, model: ModularModel, evaluation: Evaluation
) -> None:
    few = measured(run, model, evaluation, TASKS[:1], TAU)
    all_images = Evaluation(setting.dataset.test, run.model.input, 10)
    more = measured(run, model, all_images, TASKS[:1], TAU)
    assert few[0]["accuracy"]["n"] == 20 * len(TASKS[0]) < more[0]["accuracy"]["n"]


def test_activations_are_counted_once(
    setting: Setting, run: Run, model: ModularModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.models.decomposition.count_activations", None)
    again = modular_model(run, setting.dataset, Decimal("0.5"))
    assert again.threshold == Decimal("0.5")
    assert all(torch.equal(count, model.counts.counts[layer]) for layer, count in again.counts.counts.items())


def without_conditions(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in ("conditions", "seconds")} for row in rows]


def test_a_run_is_found_by_its_spec_whichever_program_asks(setting: Setting, run: Run) -> None:
    found = trained(setting.runs, setting.spec(0), setting.dataset)
    assert (found.place, found.digest) == (run.place, run.digest)
    assert found.facts == run.facts
    assert found.wall_s > 0
    assert Path(found.place).name == setting.spec(0).digest()
