from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
from serving import LABELS, Running, modular_model, patched_model, problem, running, trained_model

from moda_core.errors import StorageFailure
from moda_core.modularity.composition import compose
from moda_core.modularity.models import kind_of
from moda_core.storage import artifacts
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Objects, Registry
from worker.jobs import Jobs


def test_models_are_listed_with_every_live_version(service: Running):
    service.upload(trained_model(3), "many")
    second = service.upload(modular_model(3), "many")
    listed = [one for one in service.http.get("/models").json()["models"] if one["name"] == "many"]
    assert [one["reference"] for one in listed] == ["many@2", "many@1"]
    assert [one["kind"] for one in listed] == ["modular", "trained"]
    assert [one["aliases"] for one in listed] == [["latest"], []]
    assert service.http.get("/models/many").json() == second
    assert second["threshold"] == "0.5"
    assert second["input"]["image_size"] == 16
    assert second["architecture_arguments"]["width"] == 0.25


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("plain", trained_model()),
        ("animals", modular_model()),
        ("cut", compose(modular_model(), ["cat", "dog", "ship"])),
        ("patched", patched_model()),
    ],
)
def test_what_was_uploaded_comes_back_byte_for_byte_with_its_digest(service: Running, name: str, model: object):
    sent = encode(model)
    response = service.http.get(f"/models/{name}/weights")
    assert response.content == sent
    assert response.headers["etag"] == f'"{hashlib.sha256(sent).hexdigest()}"'
    assert response.headers["content-length"] == str(len(sent))
    part = service.http.get(f"/models/{name}/weights", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, sent[:10])
    assert service.http.get(f"/models/{name}").json()["kind"] == kind_of(model)


class TestListing:
    def test_aliases_stand_beside_their_versions(self, service: Running):
        for seed in (20, 21):
            service.upload(trained_model(seed), "tagged")
        service.http.put("/models/tagged/aliases/prod", json={"version": 1})
        service.http.put("/models/tagged/aliases/best", json={"version": 2})
        listed = {one["reference"]: one for one in service.http.get("/models").json()["models"]}
        assert listed["tagged@1"]["aliases"] == ["prod"]
        assert listed["tagged@2"]["aliases"] == ["latest", "best"]
        for reference in ("tagged@1", "tagged@2"):
            assert service.http.get(f"/models/{reference}").json()["aliases"] == listed[reference]["aliases"]

    def test_the_store_is_not_listed_once_more_for_every_version(self, tmp_path, redis, monkeypatch):
        asked: list[str] = []
        keys = Objects.keys

        def counted(objects: Objects, folder: str) -> list[str]:
            asked.append(folder)
            return keys(objects, folder)

        with running(tmp_path, redis.url) as service:
            for count in (1, 6):
                while count > len(service.registry.versions("plain")):
                    service.registry.publish_version("plain", service.registry.resolve("plain").digest)
                with monkeypatch.context() as spied:
                    spied.setattr(Objects, "keys", counted)
                    listed = service.http.get("/models").json()["models"]
                assert len([one for one in listed if one["name"] == "plain"]) == count
                assert asked.count("models/plain") == 2
                asked.clear()

    def test_a_name_without_a_live_version_is_left_out(self, service: Running):
        service.upload(trained_model(22), "gone")
        service.http.delete("/models/gone@1")
        assert "gone" not in {one["name"] for one in service.http.get("/models").json()["models"]}

    def test_a_version_that_is_deleted_while_it_is_read_is_still_answered(self, service: Running, monkeypatch):
        service.upload(trained_model(23), "fleeting")
        resolve = Registry.resolve

        def resolved_and_deleted(registry: Registry, reference: str):
            found = resolve(registry, reference)
            registry.delete(reference)
            return found

        monkeypatch.setattr(Registry, "resolve", resolved_and_deleted)
        response = service.http.get("/models/fleeting@1")
        assert (response.status_code, response.json()["aliases"]) == (200, [])


class TestDerivedFiles:
    LINKS = ("/models/animals/weights", "/models/animals/weights?class=dog")

    @pytest.mark.parametrize("link", LINKS)
    def test_a_file_is_derived_once(self, service: Running, monkeypatch, link: str):
        first = service.http.get(link)

        def derived_again(*_: object) -> bytes:
            raise AssertionError("derived again")

        monkeypatch.setattr("service.downloads.artifacts.encode", derived_again)
        assert service.http.get(link).content == first.content
        assert service.http.get(link, headers={"range": "bytes=5-9"}).content == first.content[5:10]
        assert service.http.get(link, headers={"if-none-match": first.headers["etag"]}).status_code == 304

    @pytest.mark.parametrize("link", LINKS)
    @pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"x" * file.stat().st_size)])
    def test_a_kept_file_that_is_lost_or_damaged_is_derived_again(self, tmp_path, redis, link: str, harm):
        with running(tmp_path, redis.url) as service:
            first = service.http.get(link)
        (kept,) = [file for file in tmp_path.rglob("*") if file.name == first.headers["etag"].strip('"')]
        kept.chmod(0o644)
        harm(kept)
        with running(tmp_path, redis.url) as service:
            again = service.http.get(link)
        assert (again.status_code, again.content) == (200, first.content)

    @pytest.mark.parametrize("link", LINKS)
    def test_a_store_without_room_does_not_keep_a_file_from_its_reader(self, tmp_path, redis, monkeypatch, link: str):
        def full(*_: object) -> None:
            raise StorageFailure("no space left on device", "make room")

        with running(tmp_path, redis.url) as service:
            with monkeypatch.context() as filled:
                filled.setattr(Objects, "put", full)
                filled.setattr(Objects, "create", full)
                unkept = service.http.get(link)
                known = service.http.get(link, headers={"if-none-match": unkept.headers["etag"]})
            kept = service.http.get(link)
        assert (unkept.status_code, unkept.content) == (200, kept.content)
        for header in ("etag", "repr-digest", "content-disposition", "content-length", "content-type"):
            assert unkept.headers[header] == kept.headers[header]
        assert known.status_code == 304


def test_the_same_file_uploaded_twice_is_one_model_in_two_versions(service: Running):
    first, second = (service.upload(trained_model(5), "twice") for _ in range(2))
    assert first["digest"] == second["digest"]
    assert (first["version"], second["version"]) == (1, 2)


def test_modules_are_listed_and_each_is_a_file_of_its_own(service: Running, tmp_path):
    listed = service.http.get("/models/animals/modules").json()
    assert [one["class"] for one in listed["modules"]] == list(LABELS)
    [one] = service.http.get("/models/animals/modules", params={"class": LABELS[3]}).json()["modules"]
    file = service.http.get(one["links"]["weights"])
    assert file.content == encode(compose(modular_model(), [LABELS[3]]))
    (tmp_path / "module").write_bytes(file.content)
    assert artifacts.decode(tmp_path / "module").labels == (LABELS[3],)


def test_modules_of_what_has_none_or_of_an_unknown_class_are_refused(service: Running):
    for path in ("/models/plain/modules", "/models/plain/weights?class=cat", "/models/patched/weights?class=cat"):
        problem(service.http.get(path), 409)
    for path in (
        "/models/animals/modules?class=cow",
        "/models/animals/weights?class=cow",
        "/models/cut/weights?class=x",
    ):
        assert problem(service.http.get(path), 404)["field"] == "class"


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(service: Running):
    for seed in (6, 7):
        service.upload(trained_model(seed), "brief")
    assert service.http.delete("/models/brief@2").status_code == 204
    assert service.http.get("/models/brief").json()["version"] == 1
    assert "2" in problem(service.http.get("/models/brief@2"), 404)["detail"]
    assert service.upload(trained_model(8), "brief")["version"] == 3
    problem(service.http.delete("/models/brief@2"), 404)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: b"",
        lambda file: b"no model at all",
        lambda file: file[: len(file) // 2],
        lambda file: file[:-1] + bytes([file[-1] ^ 1]),
        lambda file: file.replace(b"0.weight", b"9.weight", 1),
        lambda file: encode(trained_model(1, name="lenet5")).replace(b"lenet5", b"cnn   ", 1),
    ],
    ids=["empty", "text", "half", "one bit", "another tensor", "another architecture"],
)
def test_a_file_that_is_not_a_whole_model_of_ours_is_refused_and_changes_nothing(service: Running, change):
    before = service.http.get("/models").json()
    file = change(encode(modular_model()))
    response = service.http.post("/models", data={"name": "broken"}, files={"file": ("m.safetensors", file)})
    assert problem(response, 400)["code"] == "unreadable-file"
    assert service.http.get("/models").json() == before


def test_an_upload_needs_a_good_name_and_a_file(service: Running):
    file = {"file": ("m.safetensors", encode(trained_model()))}
    for name in ("Bad Name", "a" * 64, "../up", "x" * 65):
        problem(service.http.post("/models", data={"name": name}, files=file), 422)
    problem(service.http.post("/models", files=file), 422)
    problem(service.http.post("/models", data={"name": "good"}), 422)


def test_an_upload_above_the_limit_is_refused(tmp_path, redis):
    with running(tmp_path, redis.url, max_upload_bytes=200_000) as service:
        large = io.BytesIO(b"x" * 300_000)
        problem(service.http.post("/models", data={"name": "large"}, files={"file": ("m", large)}), 413)


class TestAliases:
    def test_an_alias_moves_only_for_who_has_seen_where_it_was(self, service: Running):
        for seed in (10, 11):
            service.upload(trained_model(seed), "aliased")
        path = "/models/aliased/aliases/prod"
        problem(service.http.get(path), 404)
        first = service.http.put(path, json={"version": 1}, headers={"if-none-match": "*"})
        assert first.status_code == 200
        assert service.http.get("/models/aliased@prod").json()["version"] == 1
        moved = service.http.put(path, json={"version": 2}, headers={"if-match": first.headers["etag"]})
        assert moved.json()["version"] == 2
        problem(service.http.put(path, json={"version": 1}, headers={"if-match": first.headers["etag"]}), 412)
        problem(service.http.put(path, json={"version": 1}, headers={"if-none-match": "*"}), 412)
        problem(service.http.put(path, json={"version": 1}, headers={"if-match": "nonsense"}), 412)
        found = service.http.get(path)
        assert found.headers["etag"] == moved.headers["etag"] == found.json()["etag"]
        digest = service.http.get("/models/aliased@1").json()["digest"]
        assert service.http.put(path, json={"digest": digest}, headers={"if-match": "*"}).json()["version"] == 1
        listed = service.http.get("/models/aliased/aliases").json()["aliases"]
        assert [one["alias"] for one in listed] == ["prod"]

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/models/plain/aliases/prod", {}, 422),
            ("/models/plain/aliases/prod", {"version": 1, "digest": "0" * 64}, 422),
            ("/models/plain/aliases/prod", {"version": 9}, 404),
            ("/models/plain/aliases/prod", {"digest": "0" * 64}, 404),
            ("/models/plain/aliases/123", {"version": 1}, 422),
            ("/models/plain/aliases/latest", {"version": 1}, 422),
            ("/models/nobody/aliases/prod", {"version": 1}, 404),
            ("/models/No%20name%1b/aliases/prod", {"version": 1}, 422),
            ("/models/plain/aliases/%1b", {"version": 1}, 422),
        ],
    )
    def test_a_bad_target_or_name_is_refused(self, service: Running, path: str, body: dict, status: int):
        problem(service.http.put(path, json=body), status)
        assert service.http.get("/models/plain/aliases").json() == {"aliases": []}


def test_metrics_count_requests_by_route_and_not_by_path(service: Running):
    service.http.get("/models/animals")
    text = service.http.get("/metrics").text
    assert 'moda_http_requests_total{method="GET",route="/models/{ref}",status="200"}' in text
    assert "animals" not in text
    assert "/metrics" not in text


@pytest.mark.skipif(sys.platform != "linux", reason="they are read from /proc")
def test_metrics_tell_of_the_process_under_the_names_that_dashboards_know(service: Running):
    text = service.http.get("/metrics").text
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    assert found is not None
    assert float(found[1]) > 50e6  # torch alone
    assert "\nprocess_open_fds " in text


def test_the_page_and_the_description_of_the_interface_load_nothing_from_elsewhere(service: Running):
    for path, title in (("/", "<title>MODA</title>"), ("/docs", "<title>MODA: API</title>")):
        page = service.http.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert title in page.text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) >= 3
        for link in loaded:
            assert link.startswith("/"), link
            assert service.http.get(link).status_code == 200, link
        policy = page.headers["content-security-policy"]
        assert "http" not in policy
        assert "script-src" not in policy  # so default-src 'self' holds, without inline scripts


def test_operations_say_what_runs(service: Running):
    assert json.loads(service.http.get("/openapi.json").text)["info"]["title"] == "MODA"
    assert service.http.get("/healthz").json() == {"status": "ok", "version": "0.1.0"}
    assert service.http.get("/readyz").json()["redis"] == "ok"


def test_a_request_by_a_name_that_others_pointed_here_is_refused(service: Running, tmp_path, redis):
    refused = problem(service.http.get("/models", headers={"host": "evil.example:8000"}), 421)
    assert "MODA_ALLOWED_HOSTS" in refused["remedy"]
    assert service.http.get("/models", headers={"host": "localhost:8000"}).status_code == 200
    with running(tmp_path, redis.url, allowed_hosts="moda.example") as named:
        assert named.http.get("/models", headers={"host": "moda.example"}).status_code == 200


def test_json_may_not_be_as_large_as_an_upload(tmp_path, redis):
    with running(tmp_path, redis.url, max_body_bytes=400_000, max_upload_bytes=500_000) as service:
        document = problem(service.http.post("/datasets", json={"name": "x" * 450_000, "source": "digits"}), 413)
        assert document["field"] == "body"
        assert "400000" in document["remedy"]


def test_a_service_that_ends_gives_every_connection_back(tmp_path, redis, monkeypatch):
    closed: list[Jobs] = []
    close = Jobs.close

    def noted(jobs: Jobs) -> None:
        closed.append(jobs)
        close(jobs)

    monkeypatch.setattr(Jobs, "close", noted)
    with running(tmp_path, redis.url):
        pass
    assert len(closed) == 1
