"""What a worker makes of a request."""

from __future__ import annotations

import pytest

from moda_core.data import sources
from moda_core.errors import Unavailable, UnreadableFile
from moda_core.storage.registry import Registry
from worker.contract import ImportRequest, JobRecord
from worker.execution import Execution


class Control:
    def progress(self, event):
        pass

    def cancelled(self):
        return False


def executed(tmp_path, request):
    record = JobRecord(
        id="0" * 16, kind="import", request=request.to_json(), digest="d" * 64, state="running", created_at=""
    )
    return Execution(Registry(tmp_path / "registry"), "cpu", tmp_path / "downloads")(record, Control())


@pytest.mark.parametrize("place", ["", "named"])
def test_official_files_are_fetched_when_asked_for_into_a_folder_of_the_workers(tmp_path, monkeypatch, place):
    fetched = []

    def fetch(downloads, folder):
        fetched.append(folder)
        raise Unavailable("no network", "wait")

    monkeypatch.setattr(sources, "fetch", fetch)
    path = str(tmp_path / place) if place else ""
    with pytest.raises(Unavailable):
        executed(tmp_path, ImportRequest(name="written", source=f"mnist:{path}", download=True))
    assert fetched == [tmp_path / place if place else tmp_path / "downloads" / "mnist"]
    with pytest.raises(UnreadableFile):
        executed(tmp_path, ImportRequest(name="written", source=f"mnist:{tmp_path / 'other'}"))
    assert len(fetched) == 1


def test_an_import_gives_the_digest_to_publish_and_publishes_nothing_itself(tmp_path):
    outcome = executed(tmp_path, ImportRequest(name="digits", source="digits"))
    registry = Registry(tmp_path / "registry")
    assert registry.datasets() == []
    assert list(outcome.digests) == [registry.resolve_dataset(outcome.result["digest"]).digest]
