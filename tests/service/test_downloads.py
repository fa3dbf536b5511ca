from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from serving import LABELS, Running, modular_model, patched_model, problem, running

from moda_core.errors import NotExportable, StorageFailure, Unavailable
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network
from moda_core.storage.artifacts import encode
from moda_core.storage.registry import Objects
from service import downloads, export_process
from service.exports import Exports
from service.processes import python


def composed(service: Running, *classes: str) -> str:
    answer = service.http.post("/compose", json={"model": "animals", "classes": classes})
    return answer.json()["links"]["weights"]


class Exporting:
    """Stands in for the process that exports: the file is the format and the digest of the model's file."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, command: list[str]) -> None:
        file_format, model, file = command[-3:]
        self.made.append(file_format)
        Path(file).write_bytes(b"%s of %s" % (file_format.encode(), _digest(Path(model).read_bytes()).encode()))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> Exporting:
    exporting = Exporting()
    monkeypatch.setattr(Exports, "_run", lambda _, command: exporting(command))
    return exporting


class TestFormats:
    def test_a_composition_comes_as_onnx_from_a_process_of_its_own(self, service: Running, monkeypatch):
        """The only test here that really exports: requests at the same time, and later ones, get one file."""
        started, run = [], Exports._run
        monkeypatch.setattr(Exports, "_run", lambda *one: started.append(one) or run(*one))
        link = f"{composed(service, 'ship', 'cat')}?format=onnx"
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(lambda _: service.http.get(link, timeout=250), range(4)))
        data = answers[0].content
        assert len(started) == 1
        assert {answer.content for answer in answers} == {service.http.get(link).content} == {data}
        assert answers[0].headers["etag"] == f'"{_digest(data)}"'
        assert "composition-" in answers[0].headers["content-disposition"]
        assert answers[0].headers["content-disposition"].endswith('.onnx"')
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
        (logits,) = session.run(None, {"pixels": pixels})
        with torch.inference_mode():
            wanted = network(compose(modular_model(), ["cat", "ship"]))(torch.from_numpy(pixels))
        torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=0, atol=1e-5)
        moda = json.loads(session.get_modelmeta().custom_metadata_map["moda"])
        assert (moda["kind"], moda["labels"]) == ("composed", ["cat", "ship"])
        assert moda["safetensors"] == _digest(service.http.get(link.partition("?")[0]).content)

    @pytest.mark.parametrize(
        ("path", "model"),
        [
            ("/models/animals/weights?", modular_model()),
            ("/models/patched/weights?", patched_model()),
            ("/models/animals/weights?class=dog&", compose(modular_model(), ["dog"])),
        ],
    )
    @pytest.mark.parametrize("file_format", ["onnx", "pt2"])
    def test_models_and_modules_come_in_every_format(
        self, service: Running, exporting: Exporting, path: str, model: object, file_format: str
    ):
        answer = service.http.get(f"{path}format={file_format}")
        assert answer.text == f"{file_format} of {_digest(encode(model))}"
        assert answer.headers["content-disposition"].endswith(f'.{file_format}"')

    def test_a_module_and_the_composition_of_its_class_are_one_export(self, service: Running, exporting: Exporting):
        path = "/models/animals/weights"
        module = service.http.get(path, params={"class": LABELS[3], "format": "pt2"})
        assert service.http.get(composed(service, LABELS[3]), params={"format": "pt2"}).content == module.content
        assert exporting.made == ["pt2"]

    def test_safetensors_is_what_comes_without_a_format(self, service: Running):
        link = composed(service, "ship", "cat")
        assert service.http.get(f"{link}?format=safetensors").content == service.http.get(link).content

    def test_an_unknown_format_is_refused_with_those_there_are(self, service: Running):
        for path in (composed(service, "cat"), "/models/plain/weights"):
            answer = problem(service.http.get(path, params={"format": "tflite"}), 422)
            assert answer["field"] == "format"
            assert all(known in answer["detail"] for known in ("safetensors", "onnx", "pt2"))

    def test_what_cannot_be_had_is_refused_before_anything_is_exported(self, service: Running, exporting: Exporting):
        for path, status in (("plain/weights?class=cat", 409), ("animals/weights?class=cow", 404), ("x/weights", 404)):
            joined = "&" if "?" in path else "?"
            problem(service.http.get(f"/models/{path}{joined}format=onnx"), status)
        assert exporting.made == []

    @pytest.mark.parametrize("file_format", ["safetensors", "onnx"])
    def test_a_module_leaves_a_whole_composition_behind(
        self, tmp_path: Path, redis, exporting: Exporting, file_format: str
    ):
        with running(tmp_path, redis.url) as service:
            module = {"class": "dog", "format": file_format}
            assert service.http.get("/models/animals/weights", params=module).status_code == 200
            answer = service.http.get("/compositions")
            assert answer.status_code == 200, answer.text
            assert [one["classes"] for one in answer.json()["compositions"]] == [["dog"]]

    def test_first_downloads_at_the_same_time_are_one_encoding(self, service: Running, monkeypatch):
        link, encoded, whole = composed(service, "dog", "a/b & ü"), [], downloads._composed

        def slowly(*given) -> bytes:
            encoded.append(given)
            time.sleep(0.3)
            return whole(*given)

        monkeypatch.setattr(downloads, "_composed", slowly)
        with ThreadPoolExecutor(20) as clients:
            answers = list(clients.map(lambda _: service.http.get(link), range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20
        assert len({answer.content for answer in answers}) == len(encoded) == 1


class TestFailures:
    @pytest.mark.parametrize(
        ("script", "status", "code"),
        [
            (
                'import sys; print(\'{"problem": "it branches", "remedy": "do not"}\'); sys.exit(1)',
                422,
                "not-exportable",
            ),
            ("import os; os.kill(os.getpid(), 9)", 503, "unavailable"),
            ("import sys; sys.exit(2)", 500, "internal"),
        ],
    )
    def test_an_export_that_fails_says_why_and_may_be_asked_for_again(
        self, tmp_path: Path, redis, monkeypatch, script: str, status: int, code: str
    ):
        monkeypatch.setattr("service.exports.python", lambda *_: [python("x")[0], "-c", script])
        with running(tmp_path, redis.url) as service:
            link = f"{composed(service, 'cat')}?format=onnx"
            for _ in range(2):
                assert problem(service.http.get(link), status)["code"] == code

    def test_more_exports_than_may_wait_are_put_off(self, service: Running, exporting: Exporting, monkeypatch):
        monkeypatch.setattr("service.exports._MOST_WAITING", 0)
        answer = service.http.get(f"{composed(service, 'a/b & ü')}?format=onnx")
        assert problem(answer, 429)["code"] == "overloaded"
        assert answer.headers["retry-after"] == "30"

    def test_a_service_that_stops_ends_the_export_and_starts_no_other(self):
        exports, sleep = Exports(), [python("x")[0], "-c", "import time; time.sleep(60)"]
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(exports._run, sleep)
            while exports._process is None and not running.done():
                time.sleep(0.01)
            exports.close()
            with pytest.raises(Unavailable, match="signal 9"):
                running.result(timeout=10)
        with pytest.raises(Unavailable, match="signal 9"):
            exports._run(sleep)

    def test_the_process_reports_a_model_that_cannot_be_exported(self, tmp_path: Path, monkeypatch, capsys):
        def refuse(*_: object) -> bytes:
            raise NotExportable("it branches", "do not")

        monkeypatch.setattr(export_process, "encode_as", refuse)
        (tmp_path / "model").write_bytes(encode(compose(modular_model(), ["cat"])))
        assert export_process.main("onnx", tmp_path / "model", tmp_path / "file") == 1
        assert json.loads(capsys.readouterr().out) == {"problem": "it branches", "remedy": "do not"}
        assert not (tmp_path / "file").exists()


@pytest.fixture(params=["safetensors", "onnx"])
def link(request: pytest.FixtureRequest, service: Running, exporting: Exporting) -> str:
    return f"{composed(service, 'cat', 'dog')}?format={request.param}"


@pytest.fixture(params=[True, False], ids=["kept", "no room"])
def fetch(request: pytest.FixtureRequest, service: Running, link: str) -> Iterator[Callable]:
    """Asks for the file, from a store that holds it, or one that cannot take it."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:

            def full(*_: object) -> None:
                raise StorageFailure("no space left on device", "make room")

            for name in ("put", "create"):
                patch.setattr(Objects, name, full)
            patch.setattr("service.downloads.Source.kept", lambda *_: None)
        yield lambda **headers: service.http.get(link, headers={k.replace("_", "-"): v for k, v in headers.items()})


class TestRanges:
    @pytest.mark.parametrize(
        ("asked", "wanted"),
        [
            ("bytes=0-9", slice(0, 10)),
            ("bytes=5-", slice(5, None)),
            ("bytes=-7", slice(-7, None)),
            ("bytes=0-99999999", slice(0, None)),
            ("bytes=-99999999", slice(0, None)),
            ("Bytes= 3-3", slice(3, 4)),
        ],
    )
    def test_one_range_comes_with_its_place(self, fetch: Callable, asked: str, wanted: slice):
        whole = fetch()
        part = fetch(range=asked)
        first, stop, _ = wanted.indices(len(whole.content))
        assert (part.status_code, part.content) == (206, whole.content[wanted])
        assert part.headers["content-range"] == f"bytes {first}-{stop - 1}/{len(whole.content)}"
        assert part.headers["content-length"] == str(stop - first)
        for header in ("etag", "repr-digest", "accept-ranges", "content-disposition"):
            assert part.headers[header] == whole.headers[header]

    @pytest.mark.parametrize("asked", ["bytes=1-2,4-5", "bytes=9-3", "bytes=-", "bytes", "lines=1-2", "bytes=a-b", ""])
    def test_what_is_not_one_range_is_answered_with_the_whole(self, fetch: Callable, asked: str):
        whole = fetch()
        answer = fetch(range=asked)
        assert (answer.status_code, answer.content) == (200, whole.content)
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-length"] == str(len(whole.content))
        assert whole.headers["etag"] == f'"{_digest(whole.content)}"'

    @pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=99999999-999999999", "bytes=-0"])
    def test_a_range_behind_the_end_is_a_problem(self, fetch: Callable, asked: str):
        size = len(fetch().content)
        answer = fetch(range=asked)
        assert problem(answer, 416)["code"] == "range-not-satisfiable"
        assert answer.headers["content-range"] == f"bytes */{size}"

    def test_a_range_of_another_file_is_the_whole_of_this_one(self, fetch: Callable):
        whole = fetch()
        assert fetch(range="bytes=0-3", if_range=whole.headers["etag"]).status_code == 206
        for other in ('"other"', f"W/{whole.headers['etag']}", "Tue, 24 Nov 2026 10:00:00 GMT"):
            answer = fetch(range="bytes=0-3", if_range=other)
            assert (answer.status_code, answer.content) == (200, whole.content)

    def test_a_client_that_has_the_file_is_told_so(self, fetch: Callable):
        whole = fetch()
        etag = whole.headers["etag"]
        for known in (etag, f'"x", W/{etag}', "*"):
            answer = fetch(if_none_match=known, range="bytes=0-3")
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert fetch(if_none_match='"x"').status_code == 200

    def test_pieces_put_together_are_the_file(self, service: Running):
        path = "/models/animals/weights"
        whole = service.http.get(path).content
        pieces = [
            service.http.get(path, headers={"range": f"bytes={start}-{start + 9999}"}).content
            for start in range(0, len(whole), 10000)
        ]
        assert b"".join(pieces) == whole


class TestKept:
    def test_each_format_is_kept_beside_the_others(self, service: Running, exporting: Exporting):
        link = composed(service, "dog", "ship")
        first = {name: service.http.get(link, params={"format": name}) for name in ("safetensors", "onnx", "pt2")}
        again = {name: service.http.get(link, params={"format": name}) for name in first}
        assert {name: one.content for name, one in again.items()} == {name: one.content for name, one in first.items()}
        assert len({one.headers["etag"] for one in first.values()}) == 3
        assert exporting.made == ["onnx", "pt2"]

    def test_the_first_file_holds_for_all_and_a_lost_one_is_made_again(self, tmp_path: Path, redis, monkeypatch):
        made = iter([b"of one library", b"of another"])
        monkeypatch.setattr(Exports, "_run", lambda _, command: Path(command[-1]).write_bytes(next(made)) and None)
        with running(tmp_path, redis.url) as service:
            link = f"{composed(service, 'cat')}?format=onnx"
            assert service.http.get(link).content == service.http.get(link).content == b"of one library"
            (blob,) = tmp_path.rglob(_digest(b"of one library"))
            blob.chmod(0o644)
            blob.unlink()
            assert service.http.get(link).content == b"of another"
