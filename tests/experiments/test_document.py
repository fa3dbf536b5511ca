"""The page as a whole, and the program that writes it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from results_page import at_epsilon, cells, reused, section, trained, write

from experiments import document
from experiments.document import BENCHMARKS, page
from moda_core.errors import UnreadableFile


def test_reuse_without_modules_is_shown_all_the_same(tmp_path):
    """A run that was stopped between the two."""
    for name in ("rq2-reuse", "rq3", "rq4-threshold"):
        write(tmp_path, f"{name}-cifar10-vgg16-e200.jsonl", [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 930)])
        write(tmp_path, f"{name}-digits-cnn-e3.jsonl", [reused("ST", [0, 1], 950), reused("MODA", [0, 1], 930)])
    document.draw(tmp_path)
    text = page(tmp_path, tmp_path, tmp_path)
    assert cells(section(text, "RQ3"), "vgg16, cifar10, MODA")[:2] == ["94.48", "93.00"]
    assert "vgg16 on svhn; vgg16 on cifar10;" in section(section(text, "Not measured yet"), "RQ4: the threshold")


def test_every_figure_is_drawn_that_of_networks_without_relu_too(tmp_path):
    rows = at_epsilon("MODA", 0.2, (5, 30), 0.0)
    for row in rows[:-1]:
        row["kept_flops"] = 1
    rows[-1]["accuracy"] = {"correct": 35, "n": 40}
    write(tmp_path, "beyond-relu-digits-vit.jsonl", rows)
    document.draw(tmp_path)
    assert (tmp_path / "figures" / "beyond-relu-digits.svg").exists()
    assert "figures/beyond-relu-digits.png" in page(tmp_path, tmp_path, tmp_path)


def test_a_file_with_another_name_is_refused(tmp_path):
    write(tmp_path, "notes.jsonl", [])
    with pytest.raises(UnreadableFile, match="does not say what it is about"):
        page(tmp_path, tmp_path, tmp_path)


def test_check_tells_a_page_that_is_out_of_date(tmp_path):
    write(tmp_path / "results", "rq1-digits-cnn-e3.jsonl", [trained("ST", 0, 300, n=359, epochs=3)])
    options = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "results.md")]
    with pytest.raises(SystemExit, match="run python -m"):
        document.main([*options, "--check"])
    document.main(options)
    document.main([*options, "--check"])
    (tmp_path / "results.md").write_text((tmp_path / "results.md").read_text().replace("83.57", "93.57"))
    with pytest.raises(SystemExit):
        document.main([*options, "--check"])


def committed(root):
    """The files of the repository that are in its history; all that there are where there is no git."""
    folders = ["docs", "benchmarks", "experiments/results"]
    try:
        listed = subprocess.run(
            ["git", "ls-files", *folders], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return [root / name for name in listed.splitlines() if (root / name).exists()]


def test_the_page_of_the_repository_is_what_its_committed_result_files_say(tmp_path):
    """Not what lies beside them while a measurement goes on."""
    root = Path(__file__).parents[2]
    for path in committed(root):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    said = page(tmp_path / "experiments" / "results", tmp_path / "docs", tmp_path / BENCHMARKS.relative_to(root))
    assert said == (root / "docs" / "results.md").read_text(), "run python -m experiments.document"
