"""The demo: its figures by hand, its report and picture from made-up findings, and all of it once, small."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats

from service.demo.digits import digits
from service.demo.findings import (
    Composed,
    Findings,
    ModelFindings,
    Replaced,
    Sample,
    SeedFindings,
    Tally,
    estimate,
)
from service.demo.goals import measured_goals
from service.demo.picture import draw
from service.demo.questions import replaced, subsets_of
from service.demo.report import as_markdown, for_terminal, sections
from service.demo.run import Plan, run
from service.demo.steps import Recipe
from service.schemas import Prediction, PredictionList

LABELS = ("a", "b", "c")


def composed(classes: tuple[str, ...], right: int, whole: int, images: int = 40) -> Composed:
    return Composed(
        classes=classes,
        composed=Tally(right, images),
        whole=Tally(whole, images),
        kept_parameters=300,
        original_parameters=1000,
        kept_flops=50,
        original_flops=100,
        compose_ms=4.0,
    )


def model(objective: str, size: float) -> ModelFindings:
    return ModelFindings(
        reference="digits-cnn@2",
        architecture="cnn",
        objective=objective,
        accuracy=Tally(59, 60),
        parameters=1000,
        sizes=dict.fromkeys(LABELS, size),
        overlaps={("a", "b"): size / 2, ("a", "c"): size / 4, ("b", "c"): size / 4},
        compositions=[
            composed(("a", "b"), 39, 40),
            composed(("a", "c"), 40, 40),
            composed(("b", "c"), 40, 38),
            composed(LABELS, 60, 60, 60),
        ],
        module_map={"relu": [[True, False], [True, True], [False, True]], "relu_1": [[True], [True], [True]]},
    )


def seed(number: int = 0, gain: int = 2) -> SeedFindings:
    patched = [
        Replaced(label, how, Tally(10, 20), Tally(10 + gain, 20), Tally(36, 40), Tally(35, 40))
        for label in LABELS
        for how in ("tenth", "all")
    ]
    samples = [Sample(0, "a", "a", 0.9, "whole model"), Sample(1, "b", "c", 0.5, "of b and c")]
    return SeedFindings(
        seed=number,
        modular=model("modular", 0.2),
        standard=model("standard", 0.4),
        weak=Tally(46, 60),
        weak_images=14,
        replaced=patched,
        samples=samples,
        seconds={"Train modular": 12.5},
    )


def findings(*seeds: SeedFindings) -> Findings:
    about = {"machine": "2 cores", "moda": "0.1.0", "torch": "2"}
    return Findings(LABELS, 140, 60, seeds or (seed(),), about, 99.0)


def section(title: str, of: Findings) -> dict[str, list[str]]:
    """A table of the report by the first cell of its rows."""
    found = next(each for each in sections(of) if each.title.startswith(title))
    return {row[0]: list(row[1:]) for row in found.rows}


def test_gaps_are_what_composing_loses() -> None:
    one = composed(("a", "b"), 39, 40)
    assert (one.gap_images, one.gap_points, one.size) == (1, 2.5, 0.3)
    assert composed(("a", "b"), 40, 38).gap_images == -2


def test_gains_are_means_over_classes_of_one_way_to_adapt() -> None:
    one = seed(gain=3)
    changed = replace(one, replaced=[*one.replaced[:1], replace(one.replaced[2], target_after=Tally(10, 20))])
    assert one.gains("tenth", lambda each: each.target_gain) == pytest.approx(15.0)
    assert changed.gains("tenth", lambda each: each.target_gain) == pytest.approx(7.5)
    assert isnan(changed.gains("all", lambda each: each.target_gain))
    assert one.gains("all", lambda each: each.others_gain) == pytest.approx(-2.5)


def test_intervals_are_students() -> None:
    values = [1.0, 2.5, 2.0, 4.0, 3.5]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = estimate(values)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert isnan(estimate([1.0]).half_width)


def test_goals_are_measured_over_all_seeds() -> None:
    reached = [goal.reached for goal in measured_goals(findings(seed(gain=2)))]
    assert reached == [True, True, True, True]
    small = replace(seed(1, gain=0), modular=model("modular", 0.39))
    both = measured_goals(findings(seed(gain=1), small))
    assert [goal.reached for goal in both] == [True, False, False, False]
    assert both[2].measured == "+2.50 points (n = 2 seeds)"


def test_every_figure_has_its_n() -> None:
    rows = section("Models", findings())
    assert rows["modular"][1:] == ["98.33 % (59 of 60)", "1,000", "20.0 % (n = 3)", "6.7 % (n = 3)"]
    assert rows["weak"][0] == "LeNet5 on 14 images, 10 %"


def test_compositions_show_mean_and_worst_gap() -> None:
    table = next(each for each in sections(findings()) if each.title.startswith("All compositions"))
    pairs, triples = (row for row in table.rows if row[0] == "modular")
    assert list(pairs[1:]) == [
        "3 pairs",
        "120",
        "99.17 %",
        "98.33 %",
        "-0.83",
        "+2.50 (1 of 40: a b)",
        "30.0 %",
        "50.0 %",
        "4.0 ms",
    ]
    assert triples[6] == "+0.00 (no image)"


def test_replacements_show_both_adaptations_and_their_means() -> None:
    rows = section("Every class", findings())
    assert rows["a"] == ["20", "10", "12", "+10.0", "-2.5", "12", "+10.0", "-2.5"]
    assert rows["mean"] == ["", "", "", "+10.00", "-2.50", "", "+10.00", "-2.50"]


def test_several_seeds_have_a_table_with_intervals() -> None:
    rows = section("Over the seeds", findings(seed(0, 1), seed(1, 3)))
    assert rows["Target gain, all, points"] == ["+10.00 ± 63.53", "+5.00", "+15.00"]
    assert "Over the seeds" not in as_markdown(findings())


def test_the_report_is_shown_and_written_alike() -> None:
    console = Console(width=200, file=None, record=True)
    with console.capture() as shown:
        console.print(for_terminal(findings()))
    written = as_markdown(findings())
    for cell in ("98.33 % (59 of 60)", "+2.50 (1 of 40: a b)", "reached", "12.5 s"):
        assert cell in shown.get()
        assert cell in written
    tables = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in tables[:3]} == {7}


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    to = tmp_path / "report.png"
    draw(findings(), np.arange(128, dtype=np.uint8).reshape(2, 8, 8), to)
    with Image.open(to) as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 100


def test_plain_data_holds_every_count() -> None:
    data = json.loads(json.dumps(findings().to_json()))
    assert data["seeds"][0]["modular"]["overlaps"] == {"a b": 0.1, "a c": 0.05, "b c": 0.05}
    assert data["seeds"][0]["replaced"][0]["target_after"] == {"correct": 12, "images": 20}


def test_a_replacement_is_counted_on_the_class_and_on_the_others() -> None:
    images = digits()
    wrong = {index for index, label in enumerate(images.truth) if label == "3"}

    def answers(mistaken: set[int]) -> PredictionList:
        given = ["x" if index in mistaken else label for index, label in enumerate(images.truth)]
        return PredictionList(
            model="ab" * 32,
            classes=list(images.labels),
            predictions=[Prediction(label=label, probability=1.0, probabilities=[]) for label in given],
        )

    found = replaced("3", "all", answers(wrong), answers(set(images.of(["5"]))), images)
    assert (found.target_before.correct, found.target_after.correct) == (0, len(wrong))
    assert found.others_before.correct - found.others_after.correct == len(images.of(["5"]))
    assert found.target_before.images + found.others_before.images == len(images.truth)


def test_the_images_that_are_sent_are_the_test_images() -> None:
    images = digits()
    with Image.open(__import__("io").BytesIO(images.files[5])) as picture:
        assert np.array_equal(np.asarray(picture), images.pixels[5])
    assert images.train_images(0.1, seed=1) == pytest.approx(images.train_images() / 10, abs=5)


def test_all_subsets_are_asked_for() -> None:
    assert len(subsets_of("0123456789", (2, 3))) == 45 + 120


class Small(Plan):
    def recipe(self, seed: int) -> Recipe:
        return Recipe(epochs=1, weak_epochs=1, adaptation_epochs=1, subset_sizes=(9,), seed=seed)


def test_the_whole_demo_runs_through_its_own_front_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = run(Small(out=tmp_path / "out", device="cpu"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"report.json", "report.md", "report.png"}
    (one,) = found.seeds
    assert one.modular.accuracy.images == len(digits().truth)
    assert len(one.modular.compositions) == 10
    assert len(one.replaced) == 20
    assert all(each.kept_parameters <= each.original_parameters for each in one.standard.compositions)
    # A composition of nine classes answers as the whole model does where no unit that matters was dropped.
    assert all(abs(each.gap_points) < 50 for each in one.modular.compositions)
    spoken = capsys.readouterr()
    assert "Every class of the weak model replaced in turn" in spoken.out
    assert "Train modular, decompose" in spoken.err
