import pytest
import torch

from experiments.setup.launch import Place, place, ranks
from moda_core.errors import InvalidInput
from moda_core.training.distributed import ALONE

TOLD = {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "MASTER_ADDR": "10.0.0.2", "MASTER_PORT": "29500"}


def test_torchruns_environment_is_understood():
    assert place(TOLD) == Place(rank=9, local_rank=1, world=16, init_method="tcp://10.0.0.2:29500")
    assert place({}) is None


@pytest.mark.parametrize("broken", [{"RANK": "x"}, {"LOCAL_RANK": None}, {"MASTER_PORT": None}])
def test_a_part_of_it_is_an_error_that_names_what_is_missing(broken):
    environment = {name: value for name, value in (TOLD | broken).items() if value is not None}
    with pytest.raises(InvalidInput, match="|".join(str(value or name) for name, value in broken.items())):
        place(environment)


@pytest.mark.parametrize("environment", [{}, TOLD | {"RANK": "0", "WORLD_SIZE": "1"}])
def test_one_process_is_alone_on_the_device_it_was_told(environment, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with ranks("cpu") as (together, device):
        assert together == ALONE
        assert device == torch.device("cpu")
    assert not torch.distributed.is_initialized()
