"""What a worker reads from its environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moda_core.errors import InvalidInput
from worker.settings import Timing, WorkerSettings


def test_the_environment_decides():
    settings = WorkerSettings.from_environment(
        {"MODA_REDIS_URL": "redis://elsewhere:1/2", "MODA_HOME": "/srv/moda", "MODA_DEVICE": "cpu"}
    )
    assert (settings.redis_url, settings.device) == ("redis://elsewhere:1/2", "cpu")
    assert (settings.registry, settings.downloads) == ("/srv/moda/registry", Path("/srv/moda/downloads"))
    assert WorkerSettings.from_environment({"MODA_REGISTRY": "s3://bucket/moda"}).registry == "s3://bucket/moda"


def test_nothing_set_is_the_home_folder_and_the_usual_redis():
    settings = WorkerSettings.from_environment({})
    assert settings == WorkerSettings()
    assert settings.timing == Timing(lease_s=15, heartbeat_s=5, ring_s=10, max_lost_leases=3)


def test_settings_that_cannot_be_used_name_their_variable():
    with pytest.raises(InvalidInput, match=r"MODA_DEVICE.*'tpu'.*auto, cpu, cuda"):
        WorkerSettings.from_environment({"MODA_DEVICE": "tpu"})


@pytest.mark.parametrize("periods", [{"lease_s": 0}, {"reap_s": -1.0}, {"heartbeat_s": 8.0}, {"reap_s": 4.0}])
def test_periods_that_cannot_hold_a_lease_are_refused(periods):
    with pytest.raises(InvalidInput, match=next(iter(periods))):
        Timing(**periods)


def test_a_worker_with_unusable_settings_says_so_and_ends():
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env={"MODA_DEVICE": "tpu"}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr.startswith("MODA_DEVICE: not a device")) == (2, True)
