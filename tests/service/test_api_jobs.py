from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import LABELS, Running, png, problem

from moda_core.data.dataset import Dataset, Images
from moda_core.errors import TooLarge
from moda_core.specs import sha256
from moda_core.storage.references import check_stored_name
from moda_core.storage.registry import Registry
from moda_core.storage.workflows import store_dataset
from service.problems import error_from_response
from worker.contract import parse_request
from worker.failures import told
from worker.jobs import Jobs
from worker.leases import take
from worker.settings import Timing


def submitted(service: Running, path: str, body: dict) -> dict:
    response = service.http.post(path, json=body)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == response.json()["links"]["self"]
    return response.json()


def digest(service: Running, reference: str, kind: str = "models") -> str:
    return service.http.get(f"/{kind}/{reference}").json()["digest"]


def spec(**members: object) -> dict:
    return {"dataset": "pictures", "architecture": "cnn", "image_size": 16, "epochs": 1, **members}


class TestSubmission:
    def test_training_resolves_its_data_set_and_takes_the_objectives_threshold(self, service: Running):
        job = submitted(service, "/train", {"spec": spec()})
        assert job["kind"] == "train"
        assert job["state"] == "queued"
        assert "worker" in job["waiting"]
        assert job["request"]["spec"]["dataset"] == digest(service, "pictures", "datasets")
        assert job["request"]["threshold"] == "0.9"
        assert job["request"]["name"] == "pictures-cnn"
        standard = submitted(service, "/train", {"spec": spec(objective="standard"), "name": "plain-cnn"})
        assert standard["request"]["threshold"] is None
        assert standard["request"]["name"] == "plain-cnn"
        assert submitted(service, "/train", {"spec": spec()})["id"] == job["id"]

    def test_decomposition_names_the_model_by_digest(self, service: Running):
        job = submitted(service, "/decompose", {"model": "animals", "threshold": 0.80})
        assert job["request"] == {"name": "animals", "model": digest(service, "animals"), "threshold": "0.8"}

    def test_replacement_resolves_both_models_and_the_data(self, service: Running):
        body = {"weak": "plain", "strong": "animals@1", "class": "dog", "dataset": "pictures", "epochs": 3}
        request = submitted(service, "/replace", body)["request"]
        assert (request["weak"], request["strong"]) == (digest(service, "plain"), digest(service, "animals"))
        assert (request["label"], request["name"], request["spec"]["epochs"]) == ("dog", "plain-patched", 3)
        assert request["dataset"] == digest(service, "pictures", "datasets")

    def test_evaluation_of_a_composition_is_that_of_its_recipe(self, service: Running):
        made = service.http.post("/compose", json={"model": "animals", "classes": ["ship", "cat"]}).json()
        first = submitted(service, "/evaluate", {"model": made["id"], "dataset": "pictures"})
        body = {"model": "animals", "classes": ["cat", "ship"], "threshold": "0.5", "dataset": "pictures"}
        assert submitted(service, "/evaluate", body)["id"] == first["id"]
        assert first["request"]["labels"] == ["cat", "ship"]
        assert first["request"]["threshold"] == "0.5"

    def test_every_accepted_request_is_one_that_a_worker_can_read(self, service: Running):
        for job in service.http.get("/jobs").json()["jobs"]:
            assert parse_request(job["kind"], job["request"]).to_json() == job["request"]

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/train", {"spec": spec(dataset="nothing")}, 404),
            ("/train", {"spec": spec(architecture="transformer9")}, 422),
            ("/train", {"spec": spec(epochs=0)}, 422),
            ("/train", {"spec": spec(epochs="3")}, 422),
            ("/train", {"spec": spec(learning_rate=-1)}, 422),
            ("/train", {"spec": spec(unknown=1)}, 422),
            ("/train", {"spec": spec(), "threshold": 1.01}, 422),
            ("/train", {"spec": spec(), "name": "Not A Name"}, 422),
            ("/train", {}, 422),
            ("/decompose", {"model": "nobody"}, 404),
            ("/decompose", {"model": "animals", "threshold": "0.99999"}, 422),
            ("/decompose", {"model": "patched"}, 409),
            ("/decompose", {"model": "plain"}, 409),
            ("/decompose", {"model": "animals", "name": "a" * 64}, 422),
            ("/train", {"spec": spec(), "name": "0123456789abcdef" * 4}, 422),
            (
                "/replace",
                {"weak": "plain", "strong": "animals", "class": "cat", "dataset": "pictures", "name": "b" * 64},
                422,
            ),
            ("/decompose", {"model": "cut"}, 409),
            ("/replace", {"weak": "plain", "strong": "animals", "class": "cow", "dataset": "pictures"}, 404),
            ("/replace", {"weak": "plain", "strong": "plain", "class": "cat", "dataset": "pictures"}, 409),
            ("/replace", {"weak": "plain", "strong": "cut", "class": LABELS[3], "dataset": "pictures"}, 404),
            ("/replace", {"weak": "plain", "strong": "animals", "class": "cat"}, 409),
            ("/replace", {"weak": "plain", "strong": "animals", "class": "cat", "dataset": "nothing"}, 404),
            ("/replace", {"weak": "plain", "strong": "animals", "class": "cat", "epochs": -1}, 422),
            ("/evaluate", {"model": "animals", "dataset": "nothing"}, 404),
            ("/evaluate", {"model": "animals", "dataset": "pictures", "classes": []}, 422),
            ("/evaluate", {"model": "plain", "dataset": "pictures", "classes": ["cat"]}, 409),
        ],
    )
    def test_a_bad_request_is_refused_and_makes_no_job(self, service: Running, path: str, body: dict, status: int):
        before = [job["id"] for job in service.http.get("/jobs").json()["jobs"]]
        document = problem(service.http.post(path, json=body), status)
        assert document["remedy"]
        assert [job["id"] for job in service.http.get("/jobs").json()["jobs"]] == before

    def test_derived_names_are_cut_to_what_can_be_published(self, service: Running):
        long = "w" * 60 + ".xyz"
        assert len(check_stored_name("name", long)) == 64
        service.registry.put_dataset(long, service.registry.dataset("pictures"))
        service.registry.publish_version(long, digest(service, "plain"))
        trained = submitted(service, "/train", {"spec": spec(dataset=long)})["request"]["name"]
        body = {"weak": long, "strong": "animals", "class": "dog", "dataset": "pictures"}
        patched = submitted(service, "/replace", body)["request"]["name"]
        assert (trained, patched) == ("w" * 60 + "-cnn", "w" * 56 + "-patched")
        for name in (trained, patched):
            assert check_stored_name("name", name) == name


def events(lines: Iterator[str]) -> Iterator[dict]:
    event: dict = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name in {"id", "event", "data"}:
            event[name] = json.loads(value) if name == "data" else value
        elif not line and event:
            yield event
            event = {}


class TestFollowing:
    def test_an_unknown_job_is_a_404(self, service: Running):
        for method, path in (("GET", "/jobs/0"), ("DELETE", "/jobs/zzz"), ("GET", "/jobs/zzz/events")):
            assert problem(service.http.request(method, path), 404)["field"] == "job"

    def test_events_arrive_as_they_happen_and_the_stream_ends_with_the_job(self, service: Running):
        job = submitted(service, "/decompose", {"model": "animals", "threshold": "0.11"})
        with service.http.stream("GET", job["links"]["events"]) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            arriving = events(stream.iter_lines())
            first = next(arriving)
            assert service.http.get(job["links"]["self"]).json()["state"] == "queued"
            service.http.delete(job["links"]["self"])
            seen = [first, *arriving]
        assert [(one["event"], one["data"]["state"]) for one in seen] == [("state", "queued"), ("state", "cancelled")]
        with service.http.stream("GET", job["links"]["events"], headers={"last-event-id": seen[0]["id"]}) as stream:
            assert list(events(stream.iter_lines())) == seen[1:]
        with service.http.stream("GET", job["links"]["events"], headers={"last-event-id": seen[1]["id"]}) as stream:
            assert list(events(stream.iter_lines())) == []

    def test_an_event_id_that_is_none_is_refused(self, service: Running):
        job = submitted(service, "/decompose", {"model": "animals", "threshold": "0.12"})
        problem(service.http.get(job["links"]["events"], headers={"last-event-id": "yesterday"}), 422)

    def test_a_cancelled_job_says_so_and_the_same_work_can_be_asked_for_again(self, service: Running):
        job = submitted(service, "/decompose", {"model": "animals", "threshold": "0.13"})
        assert service.http.delete(job["links"]["self"]).json()["state"] == "cancelled"
        assert service.http.get(job["links"]["self"]).json()["finished_at"]
        assert submitted(service, "/decompose", {"model": "animals", "threshold": "0.13"})["id"] != job["id"]

    def test_jobs_are_listed_newest_first_and_in_pages(self, service: Running):
        made = [submitted(service, "/decompose", {"model": "animals", "threshold": f"0.2{i}"})["id"] for i in range(3)]
        listed = service.http.get("/jobs", params={"limit": 2}).json()["jobs"]
        assert [job["id"] for job in listed] == made[:0:-1]
        problem(service.http.get("/jobs", params={"limit": 0}), 422)


def npz(value: int = 0, **changes: object) -> bytes:
    file = io.BytesIO()
    pixels = np.full((4, 8, 8), value, np.uint8)
    labels = np.array([0, 1, 0, 1])
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels, "classes": np.array(["a", "b"])}
    np.savez(file, **{key: array for key, array in {**arrays, **changes}.items() if array is not None})
    return file.getvalue()


def zipped(*paths: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            archive.writestr(path, png())
    return file.getvalue()


class Quiet:
    """Work that nobody follows or stops."""

    def progress(self, event: object) -> None:
        pass

    def cancelled(self) -> bool:
        return False


def succeeded(service: Running, job: dict, name: str, value: int) -> dict:
    """An import's job, ended as a worker would with images of one shade."""
    images = Images(torch.full((4, 1, 8, 8), value, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    stored = service.registry.store_dataset(Dataset(("a", "b"), images, images, mirror=False))
    service.registry.publish_dataset(name, stored, job["id"])
    jobs = Jobs(service.settings.redis_url)
    lease = take(jobs, job["id"], "w", Timing())
    assert lease is not None
    assert lease.succeed({"dataset": name, "version": 1, "digest": stored})
    jobs.close()
    return job


class TestFailure:
    def test_says_why_to_programs_as_to_people(self, service: Running):
        job = submitted(service, "/decompose", {"model": "animals", "threshold": "0.31"})
        jobs = Jobs(service.settings.redis_url)
        lease = take(jobs, job["id"], "w", Timing())
        assert lease is not None
        lease.fail(*told(TooLarge("source", 2**40, "too many bytes", "send less")))
        jobs.close()
        failed = service.http.get(job["links"]["self"]).json()
        members = {"code": "too-large", "field": "source", "value": 2**40, "remedy": "send less"}
        assert (failed["error"].partition(";")[2], failed["problem"]) == (" send less", members)
        document = json.dumps({**failed["problem"], "detail": failed["error"]}).encode()
        meant = error_from_response(500, document)
        assert (type(meant), str(meant)) == (TooLarge, failed["error"])


class TestDatasets:
    def test_data_sets_are_listed_found_and_deleted(self, service: Running):
        [listed] = [one for one in service.http.get("/datasets").json()["datasets"] if one["name"] == "pictures"]
        assert listed == service.http.get("/datasets/pictures@1").json()
        assert (listed["classes"], listed["train"], listed["test"]) == (list(LABELS), 16, 8)
        assert listed["image"] == [1, 16, 16]
        service.registry.put_dataset("spare", service.registry.dataset("pictures"))
        assert service.http.delete("/datasets/spare").status_code == 204
        problem(service.http.get("/datasets/spare"), 404)

    def test_an_upload_waits_on_the_registry_where_every_worker_finds_it(self, service: Running, tmp_path: Path):
        sent = {"file": ("Set.NPZ", npz())}
        response = service.http.post("/datasets", data={"name": "mine", "image_size": "16"}, files=sent)
        assert response.status_code == 202, response.text
        request = response.json()["request"]
        assert request["source"] == f"upload:{sha256(npz())}"
        assert (request["name"], request["image_size"]) == ("mine", 16)
        again = service.http.post("/datasets", data={"name": "mine", "image_size": "16"}, files=sent)
        assert again.json()["id"] == response.json()["id"]
        assert list(service.settings.uploads.iterdir()) == []
        result = store_dataset(Registry(service.settings.registry_location), request["source"], control=Quiet())
        assert result["classes"] == ["a", "b"]

    def test_what_was_imported_once_counts_while_its_name_means_it(self, service: Running):
        def sent(value: int) -> dict:
            files = {"file": ("set.npz", npz(value))}
            response = service.http.post("/datasets", data={"name": "changing"}, files=files)
            assert response.status_code == 202, response.text
            return response.json()

        first = sent(1)
        assert sent(1)["id"] == succeeded(service, first, "changing", 1)["id"], "it is there already"
        second = sent(2)
        assert second["id"] != first["id"]
        succeeded(service, second, "changing", 2)
        third = sent(1)
        assert third["id"] != first["id"], "the name means another data set now"
        succeeded(service, third, "changing", 1)
        service.http.delete("/datasets/changing")
        assert sent(1)["id"] != third["id"], "it was deleted"

    def test_a_file_of_the_server_that_has_changed_is_another_job(self, service: Running):
        folder = service.settings.import_dir
        assert folder is not None
        (folder / "shots" / "train").mkdir(parents=True)
        for name in ("a", "b"):
            (folder / "shots" / "train" / name).mkdir()
            (folder / "shots" / "train" / name / "1.png").write_bytes(png())
        (folder / "own.npz").write_bytes(npz(1))
        for source, change in (
            ("own.npz", lambda: (folder / "own.npz").write_bytes(npz(2))),
            ("shots", lambda: (folder / "shots" / "train" / "a" / "1.png").write_bytes(png(7))),
            ("shots", lambda: (folder / "shots" / "train" / "a" / "2.png").write_bytes(png())),
        ):
            body = {"name": "server", "source": source}
            first = succeeded(service, submitted(service, "/datasets", body), "server", 1)
            assert submitted(service, "/datasets", body)["id"] == first["id"]
            change()
            assert submitted(service, "/datasets", body)["id"] != first["id"]

    def test_a_store_that_cannot_be_read_makes_no_new_job(self, service: Running):
        body = {"name": "spoiled", "source": "digits"}
        succeeded(service, submitted(service, "/datasets", body), "spoiled", 3)
        before = service.http.get("/jobs").json()["jobs"]
        [record] = Path(service.settings.registry_location).glob("datasets/spoiled/versions/*")
        record.write_bytes(b"no record")
        assert problem(service.http.post("/datasets", json=body), 500)["code"] == "corrupt"
        assert service.http.get("/jobs").json()["jobs"] == before
        record.unlink()

    def test_official_files_are_downloaded_when_the_user_says_so(self, service: Running):
        for source in ("mnist", "mnist:"):
            asked = submitted(service, "/datasets", {"name": "written", "source": source, "download": True})["request"]
            assert (asked["source"], asked["download"]) == ("mnist:", True)
        for source, field in (("digits", "download"), ("mnist:../../elsewhere", "source"), ("set.npz", "download")):
            body = {"name": "written", "source": source, "download": True}
            assert problem(service.http.post("/datasets", json=body), 422)["field"] == field
        sent = {"file": ("set.npz", npz())}
        answer = service.http.post("/datasets", data={"name": "mine", "download": "true"}, files=sent)
        assert problem(answer, 422)["field"] == "download"
        assert problem(service.http.post("/datasets", json={"name": "written", "source": "mnist:"}), 422)

    @pytest.mark.parametrize(
        ("name", "content", "status"),
        [
            ("objects.npz", lambda: npz(y_train=np.array([0, 1, None, 1], object)), 400),
            ("alone.npz", lambda: npz(classes=np.array(["a"])), 422),
            ("less.npz", lambda: npz(classes=None), 400),
            ("alone.zip", lambda: zipped("train/a/1.png"), 422),
            ("empty.zip", lambda: zipped("train/a/1.png", "train/b/readme.txt"), 422),
            ("untested.zip", lambda: zipped("train/a/1.png", "train/b/1.png", "test/a/1.png"), 422),
            ("none.zip", lambda: zipped("readme.txt"), 422),
        ],
    )
    def test_what_can_be_seen_to_be_no_data_set_is_refused_at_once(
        self, service: Running, name: str, content: Callable[[], bytes], status: int
    ):
        before = service.http.get("/jobs").json()["jobs"]
        document = problem(
            service.http.post("/datasets", data={"name": "bad"}, files={"file": (name, content())}), status
        )
        assert document["field"] == "file"
        assert ".received" not in str(document)
        folder = service.settings.import_dir
        assert folder is not None
        (folder / name).write_bytes(content())
        problem(service.http.post("/datasets", json={"name": "bad", "source": name}), status)
        assert service.http.get("/jobs").json()["jobs"] == before

    def test_the_embedded_set_and_files_below_the_import_folder_are_imported_by_name(self, service: Running):
        folder = service.settings.import_dir
        assert folder is not None
        (folder / "set.npz").write_bytes(npz())
        (folder / "cifar").mkdir(exist_ok=True)
        for source, expected in (
            ("digits", "digits"),
            ("set.npz", str(folder / "set.npz")),
            ("cifar10:cifar", f"cifar10:{folder / 'cifar'}"),
            (str(folder / "set.npz"), str(folder / "set.npz")),
        ):
            job = submitted(service, "/datasets", {"name": "named", "source": source})
            assert job["request"]["source"] == expected

    @pytest.mark.parametrize(
        "source",
        ["/etc/passwd", "../home", "cifar10:/etc", "set\0.npz", "x" * 1000, "linked", "svhn:..", "/", "missing.npz"],
    )
    def test_nothing_outside_of_the_import_folder_can_be_named_or_learnt_about(self, service: Running, source: str):
        folder = service.settings.import_dir
        assert folder is not None
        if not (folder / "linked").is_symlink():
            (folder / "linked").symlink_to("/etc")
        document = problem(service.http.post("/datasets", json={"name": "named", "source": source}), 422)
        assert document["field"] == "source"
        assert document["detail"].startswith("source: nothing below the import folder")

    def test_without_an_import_folder_only_uploads_and_the_embedded_set_remain(self, without_redis: Running):
        document = problem(without_redis.http.post("/datasets", json={"name": "named", "source": "some.npz"}), 422)
        assert "MODA_IMPORT_DIR" in document["remedy"]

    def test_an_upload_that_is_no_archive_is_refused(self, service: Running):
        cases = {
            ("set.npz", b"just text"): 400,
            ("set.npz", npz()[:100]): 400,
            ("set.npz", b""): 400,
            ("set.csv", npz()): 415,
        }
        for sent, status in cases.items():
            problem(service.http.post("/datasets", data={"name": "bad"}, files={"file": sent}), status)
        problem(service.http.post("/datasets", data={"name": "Bad Name"}, files={"file": ("a.npz", npz())}), 422)
        problem(service.http.post("/datasets", data={"name": "bad"}), 415)
        problem(service.http.post("/datasets", files={"file": ("a.npz", npz())}), 422)
        problem(service.http.post("/datasets", data={"name": "bad"}, files={"other": ("a.npz", npz())}), 422)
        wrong = {"name": "bad", "image_size": "large"}
        problem(service.http.post("/datasets", data=wrong, files={"file": ("a.npz", npz())}), 422)

    def test_a_zip_that_would_write_outside_is_refused(self, service: Running):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../../outside/a.png", b"")
        document = problem(
            service.http.post("/datasets", data={"name": "bad"}, files={"file": ("a.zip", file.getvalue())}), 400
        )
        assert "../../outside" in document["detail"]
