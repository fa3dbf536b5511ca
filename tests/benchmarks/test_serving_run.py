"""A tenth of the serving benchmark: our service alone, really started, loaded and stopped."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sources import ROOT

from benchmarks.serving.contestants import Place, ours
from benchmarks.serving.environments import PEERS, NotInstalled, environment
from service.up import Place as UpPlace
from service.up import _parts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and wrk")


@pytest.mark.parametrize("processes", [1, 2])
def test_ours_is_started_as_moda_up_starts_it(tmp_path, processes):
    place = Place(models=tmp_path, scratch=tmp_path, environments=tmp_path, processes=processes)
    by_up = _parts(UpPlace(home=tmp_path, processes=processes), 8123)[-1]
    assert ours(place).command(8123) == by_up.command


def test_everybody_has_the_same_surroundings(tmp_path):
    place = Place(models=tmp_path, scratch=tmp_path, environments=tmp_path, threads=2)
    shared = place.surroundings()
    assert shared.items() <= ours(place).environment.items()
    assert (shared["OMP_NUM_THREADS"], shared["CUDA_VISIBLE_DEVICES"]) == ("2", "")


def test_a_peer_without_an_installer_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="ray: no uv"):
        environment("ray", tmp_path / "environments")


@pytest.mark.parametrize("peer", PEERS)
def test_peers_are_pinned_by_name_and_version(peer):
    lines = (ROOT / "benchmarks" / "serving" / f"requirements-{peer}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(line.count("==") == 1 and "/" not in line for line in pins)


def test_the_measuring_process_holds_no_torch():
    """Its pages would count half for every server that is measured."""
    code = "import sys, benchmarks.serving.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (package wrk)")
def test_a_tenth_of_it_runs(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.serving", "--tenth", "--json", str(tmp_path / "serving.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "serving.json").read_text())
    rounds = found["tables"]["Rounds"]
    assert {(row["form"], row["connections"]) for row in rounds} == {
        (form, count) for form in ("multipart", "raw") for count in (1, 8)
    }
    assert all(row["req/s"] > 0 and row["errors"] == 0 for row in rounds)
    [server] = found["tables"]["Start, stop and memory"]
    assert (server["processes left"], server["requests lost"]) == (0, 0)
    assert "| MODA |" in (tmp_path / "serving.md").read_text()
    assert found["conditions"]["command"].startswith("python -m benchmarks.serving --tenth")
