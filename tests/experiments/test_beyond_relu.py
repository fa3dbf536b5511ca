"""The program on digits at a tiny size: exact at every epsilon, complete, and nothing measured twice."""

import math

import pytest

from experiments import beyond_relu
from experiments.beyond_relu import main, result_path
from experiments.records.result_file import ResultFile
from moda_core.errors import InvalidInput


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command for one epoch, two sub-tasks and two epsilons of a small transformer."""
    monkeypatch.setitem(beyond_relu._RECIPES, "vit", {"width": 0.25, "epochs": 1, "batch_size": 64})
    monkeypatch.setattr("experiments.reuse.epsilons.pairs_and_triples", lambda classes: ((0, 1), (3, 5, 9)))
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
    return tmp_path, ["--models", "vit", "--epsilons", "0.05,0.3", *folders]


def test_every_composition_is_the_masked_model_and_larger_epsilons_keep_less(command, capsys):
    folder, arguments = command
    main(arguments)
    rows = ResultFile(result_path(folder, "vit")).measured()
    assert [row["kind"] for row in rows].count("training") == 2
    reuse, sweeps = ([row for row in rows if row["kind"] == kind] for kind in ("reuse", "epsilon"))
    assert len(reuse) == 2 * 2 * 2
    assert all(row["error"] <= 1e-9 for row in [*reuse, *sweeps])
    for approach in ("ST-composed", "MODA"):
        small, large = (row for row in sweeps if row["approach"] == approach)
        assert (small["epsilon"], large["epsilon"]) == (0.05, 0.3)
        assert large["size"] <= small["size"] <= 1
        assert set(large["layers"]) == set(small["layers"])
        assert len(large["layers"]) == 4
        alike = [row for row in reuse if (row["approach"], row["epsilon"]) == (approach, 0.3)]
        assert large["accuracy"] == {name: sum(row["accuracy"][name] for row in alike) for name in ("correct", "n")}
        assert math.isclose(
            large["kept"], sum(row["kept_parameters"] / row["original_parameters"] for row in alike) / 2
        )
    assert (folder / "figures" / "beyond-relu-digits.svg").exists()
    written = result_path(folder, "vit").read_bytes()
    main(arguments)
    assert result_path(folder, "vit").read_bytes() == written
    assert "epsilon 0.3" in capsys.readouterr().out


def test_epsilons_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInput, match="--epsilons"):
        main(["--epsilons", "0.1,small"])


@pytest.mark.parametrize(("option", "value"), [("--device", "foo"), ("--seeds", "0"), ("--epochs", "0")])
def test_what_cannot_be_trained_is_refused(tmp_path, option, value):
    with pytest.raises(InvalidInput, match=option):
        main([option, value, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
