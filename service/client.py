"""A typed client of the service: one method per request, answers as schemas, errors as `moda_core.errors`.

with Client("http://127.0.0.1:8000") as moda:
    job = moda.wait(moda.train({"dataset": "digits", "architecture": "cnn", "epochs": 60}).id)
    pair = moda.compose("digits-cnn", ["3", "8"])
    moda.predict(pair.id, [Path("three.png").read_bytes()])
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from moda_core.errors import Cancelled, InvalidInput, ModaError, TrainingFailure, Unavailable
from moda_core.files import storing
from moda_core.storage.formats import FileFormat
from service import schemas
from service.event_stream import StreamedEvent, streamed_events
from service.problems import error_from_problem, error_from_response

__all__ = ["DEFAULT_URL", "FINAL_STATES", "Client", "as_plain"]

DEFAULT_URL = "http://127.0.0.1:8000"
FINAL_STATES = ("succeeded", "failed", "cancelled")
_Answer = TypeVar("_Answer", bound=BaseModel)


class Client:
    """Requests to one service; to be closed, or used as a context manager.

    Args:
        url: of the service.
        timeout_s: for one request; streams of events wait as long as the job takes.
        transport: instead of the network, for tests.

    Every method raises the class of `moda_core.errors` that the service's problem details name, and
    `Unavailable` when nothing answers.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout_s: float = 60.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout_s, transport=transport, trust_env=False)
        except httpx.InvalidURL as error:
            raise InvalidInput("url", url, f"not an address ({error})", f"give one such as {DEFAULT_URL}") from error

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Data sets

    def import_dataset(
        self, name: str, source: str, *, image_size: int | None = None, seed: int = 0, download: bool = False
    ) -> schemas.Job:
        """Start the import of a data set that the service can reach by itself, or download."""
        body = {"name": name, "source": source, "image_size": image_size, "seed": seed, "download": download or None}
        return self._post("/datasets", schemas.Job, json=_given(body))

    def upload_dataset(self, name: str, file: Path, *, image_size: int | None = None, seed: int = 0) -> schemas.Job:
        """Send an ``.npz`` or ``.zip`` file, and start its import."""
        form = _given({"name": name, "image_size": image_size, "seed": seed or None})
        with file.open("rb") as content:
            return self._post("/datasets", schemas.Job, data=form, files={"file": (file.name, content)})

    def datasets(self) -> list[schemas.Dataset]:
        """Every data set."""
        return self._get("/datasets", schemas.DatasetList).datasets

    def dataset(self, reference: str) -> schemas.Dataset:
        """One data set."""
        return self._get(f"/datasets/{_segment(reference)}", schemas.Dataset)

    # Jobs

    def train(self, spec: Mapping[str, Any], *, name: str | None = None, threshold: str | None = None) -> schemas.Job:
        """Start a training run; `spec` as in `moda_core.specs.TrainingSpec`."""
        body = {"name": name, "spec": dict(spec), "threshold": threshold}
        return self._post("/train", schemas.Job, json=_given(body))

    def decompose(self, model: str, *, threshold: str | None = None, name: str | None = None) -> schemas.Job:
        """Start to cut a trained model into modules."""
        body = {"model": model, "threshold": threshold, "name": name}
        return self._post("/decompose", schemas.Job, json=_given(body))

    def replace(
        self,
        weak: str,
        strong: str,
        label: str,
        *,
        dataset: str | None = None,
        epochs: int | None = None,
        name: str | None = None,
    ) -> schemas.Job:
        """Start to patch the class `label` of `weak` with `strong`'s module."""
        body = {"weak": weak, "strong": strong, "class": label, "dataset": dataset, "epochs": epochs, "name": name}
        return self._post("/replace", schemas.Job, json=_given(body))

    def evaluate(
        self, model: str, dataset: str, *, classes: Sequence[str] | None = None, threshold: str | None = None
    ) -> schemas.Job:
        """Start to measure a model, or a composition of it, on test images."""
        body = {"model": model, "dataset": dataset, "classes": classes and list(classes), "threshold": threshold}
        return self._post("/evaluate", schemas.Job, json=_given(body))

    def jobs(self) -> list[schemas.Job]:
        """Every job, newest first."""
        return self._get("/jobs", schemas.JobList).jobs

    def job(self, job_id: str) -> schemas.Job:
        """One job's record."""
        return self._get(f"/jobs/{_segment(job_id)}", schemas.Job)

    def cancel(self, job_id: str) -> schemas.Job:
        """Ask a job to stop; it does so between two steps."""
        response = self._send("DELETE", f"/jobs/{_segment(job_id)}")
        return _parsed(schemas.Job, response)

    def events(self, job_id: str) -> Iterator[StreamedEvent]:
        """A job's events from its first to its last, as they happen; broken connections are taken up again."""
        path = f"/jobs/{_segment(job_id)}/events"

        @contextmanager
        def connect(last_id: str | None) -> Iterator[Iterator[str]]:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
            with self._reached(), self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as response:
                _raise_for(response)
                yield response.iter_lines()

        return streamed_events(connect, finished=lambda: self.job(job_id).state in FINAL_STATES)

    def wait(self, job_id: str, on_event: Callable[[StreamedEvent], None] | None = None) -> schemas.Job:
        """The record of a job that has succeeded.

        Raises:
            Cancelled: if it was cancelled.
            ModaError: if it failed, of the class and with the reason that it failed with in the worker.
        """
        for event in self.events(job_id):
            if on_event is not None:
                on_event(event)
        job = self.job(job_id)
        if job.state == "failed":
            if job.problem is None:
                raise TrainingFailure(f"job {job_id} failed: {job.error}", "the worker's log says more")
            members = {**as_plain(job.problem), "detail": f"job {job_id} failed: {job.error}"}
            raise error_from_problem(members, 422)
        if job.state == "cancelled":
            raise Cancelled(f"job {job_id}")
        return job

    # Models

    def models(self) -> list[schemas.ModelSummary]:
        """Every model with its live versions."""
        return self._get("/models", schemas.ModelList).models

    def model(self, reference: str) -> schemas.Model:
        """One model with everything its manifest says."""
        return self._get(f"/models/{_segment(reference)}", schemas.Model)

    def modules(self, reference: str) -> schemas.ModuleList:
        """The modules of a modular model, with sizes and overlaps."""
        return self._get(f"/models/{_segment(reference)}/modules", schemas.ModuleList)

    def download_weights(
        self, reference: str, to: Path, *, label: str | None = None, file_format: FileFormat = "safetensors"
    ) -> int:
        """Write a model's file, or one class's module, to `to`; its length in bytes."""
        params = _given({"class": label, "format": file_format})
        return self._download(f"/models/{_segment(reference)}/weights", to, params=params)

    # Compositions

    def compose(self, model: str, classes: Sequence[str], *, threshold: str | None = None) -> schemas.Composition:
        """A model for some classes of a modular one."""
        body = {"model": model, "classes": list(classes), "threshold": threshold}
        return self._post("/compose", schemas.Composition, json=_given(body))

    def composition(self, composition_id: str) -> schemas.Composition:
        """A composition that was made before."""
        return self._get(f"/compositions/{_segment(composition_id)}", schemas.Composition)

    def download_composition(self, composition_id: str, to: Path, *, file_format: FileFormat = "safetensors") -> int:
        """Write a composition's file to `to`; its length in bytes."""
        return self._download(f"/compositions/{_segment(composition_id)}/weights", to, params={"format": file_format})

    # Predictions

    def predict(self, model: str, images: Sequence[bytes]) -> schemas.PredictionList:
        """Classify image files (PNG, JPEG, ...) with a model or a composition, as one multipart request."""
        files = [("image", (f"{index}", content)) for index, content in enumerate(images)]
        form = self._http.build_request("POST", "/predict", data={"model": model}, files=files)
        # Read into one piece: sent part by part, a hundred small images cost both sides more than their answer.
        content, headers = form.read(), {"Content-Type": form.headers["Content-Type"]}
        return self._post("/predict", schemas.PredictionList, content=content, headers=headers)

    def predict_raw(self, model: str, image: bytes, *, media_type: str = "image/png") -> schemas.PredictionList:
        """Classify one image file, sent as the request's body."""
        return self._post(
            "/predict",
            schemas.PredictionList,
            params={"model": model},
            content=image,
            headers={"Content-Type": media_type},
        )

    # Health

    def ready(self) -> schemas.Readiness:
        """What works now; raises `Unavailable` when the service is not ready."""
        with self._reached():
            readiness = _parsed(schemas.Readiness, self._http.get("/readyz"))
        if readiness.status != "ready":
            raise Unavailable(f"the service is not ready: {readiness.registry}", "its log says more")
        return readiness

    # How it talks

    def _get(self, path: str, answer: type[_Answer], **options: Any) -> _Answer:
        return _parsed(answer, self._send("GET", path, **options))

    def _post(self, path: str, answer: type[_Answer], **options: Any) -> _Answer:
        return _parsed(answer, self._send("POST", path, **options))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._reached():
            response = self._http.request(method, path, **options)
        _raise_for(response)
        return response

    def _download(self, path: str, to: Path, *, params: Mapping[str, str]) -> int:
        partial = to.with_name(f"{to.name}.partial")
        try:
            with self._reached(), self._http.stream("GET", path, params=params) as response:
                _raise_for(response)
                with storing(to), partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)
        return to.stat().st_size

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise Unavailable(f"the service at {self.url} did not answer in time", "try again later") from error
        except httpx.UnsupportedProtocol as error:
            raise InvalidInput("url", self.url, "not an http address", f"give one such as {DEFAULT_URL}") from error
        except httpx.TransportError as error:
            remedy = "start it with `moda up`, or name another with --url or MODA_URL"
            raise Unavailable(f"the service at {self.url} cannot be reached ({error})", remedy) from error


# An open stream is kept alive by the service; silence this long means that the connection is dead.
_STREAM_TIMEOUT = httpx.Timeout(10.0, read=60.0)


def _segment(reference: str) -> str:
    return quote(reference, safe="@:")


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None}


def _raise_for(response: httpx.Response) -> None:
    if response.is_error:
        response.read()
        raise error_from_response(response.status_code, response.content)


def _parsed(answer: type[_Answer], response: httpx.Response) -> _Answer:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        problem = f"{response.request.url} answered something else than a {answer.__name__}"
        raise ModaError(f"{problem}; is it a MODA service of this version?") from error


def as_plain(answer: BaseModel) -> Any:
    """An answer as plain JSON data, with the names that the service uses."""
    return json.loads(answer.model_dump_json(by_alias=True))
