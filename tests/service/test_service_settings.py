from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_settings_come_from_the_environment_and_default_to_loopback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("MODA_HOME", "~/else")
    monkeypatch.setenv("MODA_IMPORT_DIR", "")
    monkeypatch.setenv("MODA_MAX_PIXELS", "100")
    monkeypatch.setenv("MODA_URL", "http://not.for.the.service")
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.max_pixels == 100
    assert settings.registry_location == "/somewhere/else/registry"
    assert settings.import_dir is None
    assert settings.allowed_hosts == ()
    monkeypatch.setenv("MODA_ALLOWED_HOSTS", "moda.example, 10.0.0.5,")
    assert Settings().allowed_hosts == ("moda.example", "10.0.0.5")


def test_what_is_sent_lies_where_its_copy_will_be_if_that_is_here(tmp_path: Path):
    assert Settings(home=tmp_path).uploads == tmp_path / "registry" / ".received"
    assert Settings(home=tmp_path, registry=f"file://{tmp_path}/there").uploads == tmp_path / "there" / ".received"
    assert Settings(home=tmp_path, registry="s3://bucket/models").uploads == tmp_path / ".received"


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"port": 70_000}, {"max_pixels": 0}])
def test_a_setting_out_of_range_is_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Settings(**wrong)
