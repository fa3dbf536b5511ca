"""What a job is: its kinds, states, requests and record, and where each lies in Redis.

A request names models and data sets by digest only, so that equal requests are equal work. Nothing
here imports torch, Celery or redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, get_args

from moda_core.errors import InvalidInput
from moda_core.specs import (
    AdaptationSpec,
    Spec,
    TrainingSpec,
    canonical_json,
    check_labels,
    check_name,
    parse_threshold,
    sha256,
)

__all__ = [
    "KINDS",
    "TERMINAL",
    "DecomposeRequest",
    "EvaluateRequest",
    "ImportRequest",
    "JobEvent",
    "JobKind",
    "JobRecord",
    "JobRequest",
    "JobState",
    "Keys",
    "ReplaceRequest",
    "TrainRequest",
    "iso_utc",
    "kind_of_request",
    "parse_request",
    "request_digest",
]

JobKind = Literal["train", "decompose", "replace", "evaluate", "import"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
KINDS: Final[tuple[JobKind, ...]] = get_args(JobKind)
TERMINAL: Final[frozenset[JobState]] = frozenset({"succeeded", "failed", "cancelled"})


class Keys:
    """Names of what jobs keep in Redis."""

    JOB: Final = "moda:job:"  # + id: a hash, the record
    EVENTS: Final = "moda:events:"  # + id: a stream
    SPEC: Final = "moda:spec:"  # + digest of kind and request: the id of the newest such job
    ALL: Final = "moda:jobs"  # ids by time of submission, ms
    QUEUED: Final = "moda:queued"  # ids by time of the last ring, ms
    RUNNING: Final = "moda:running"  # ids by end of their lease, ms
    WORKERS: Final = "moda:workers"  # names by end of their presence, ms
    REAPER: Final = "moda:reaper"  # held by the one that is sweeping
    SWEPT: Final = "moda:swept"  # when leases were last looked at, ms
    DOORBELL: Final = "moda:doorbell"  # Celery's queue; its messages carry nothing but a job's id


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Spec):
    """Train, publish, and with a threshold go on to decompose.

    Attributes:
        name: under which the versions appear; None publishes by digest alone.
        spec: what to train, its data set as a digest.
        threshold: τ of the decomposition, canonical; None trains only.
    """

    name: str | None
    spec: TrainingSpec
    threshold: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The request that `to_json` wrote."""
        return super().from_json(_with_spec(data, TrainingSpec))


@dataclass(frozen=True, kw_only=True)
class DecomposeRequest(Spec):
    """Cut a trained model (a digest) into modules at τ."""

    name: str | None
    model: str
    threshold: str

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True)
class ReplaceRequest(Spec):
    """Patch `label` of a weak model with a strong model's module.

    Attributes:
        weak, strong: manifest digests.
        dataset: a digest; None learns on the weak model's own training data.
    """

    name: str | None
    weak: str
    strong: str
    label: str
    dataset: str | None = None
    spec: AdaptationSpec = field(default_factory=AdaptationSpec)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The request that `to_json` wrote."""
        return super().from_json(_with_spec(data, AdaptationSpec))


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Spec):
    """Accuracy of a model (a digest), composed for `labels` when given, on a data set's test images."""

    model: str
    dataset: str
    labels: tuple[str, ...] | None = None
    threshold: str | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels("classes", self.labels))
        _check(self)


@dataclass(frozen=True, kw_only=True)
class ImportRequest(Spec):
    """Read a data set's files once, under a name.

    Attributes:
        source: as `moda_core.data.sources.load` takes it, paths as the worker sees them, or
            ``upload:<digest>`` for a file that the registry keeps.
        download: fetch official files that are not there; with no path after the colon
            (``cifar10:``) into a folder of the worker's.
        content: a stamp of the files as they were at submission, so that changed ones are another job.
    """

    name: str
    source: str
    image_size: int | None = None
    seed: int = 0
    download: bool = False
    content: str | None = None

    def __post_init__(self) -> None:
        _check(self)


JobRequest = TrainRequest | DecomposeRequest | ReplaceRequest | EvaluateRequest | ImportRequest
_REQUESTS: Final[dict[JobKind, type[JobRequest]]] = {
    "train": TrainRequest,
    "decompose": DecomposeRequest,
    "replace": ReplaceRequest,
    "evaluate": EvaluateRequest,
    "import": ImportRequest,
}


def _check(request: Spec) -> None:
    """Check the name and make τ canonical, where the request has them."""
    name, threshold = getattr(request, "name", None), getattr(request, "threshold", None)
    if name is not None:
        check_name("name", name)
    if threshold is not None:
        object.__setattr__(request, "threshold", format(parse_threshold(threshold), "f"))


def _with_spec(data: Mapping[str, Any], spec: type[Spec]) -> dict[str, Any]:
    """`data` with its nested spec parsed."""
    nested = data.get("spec")
    return {**data, "spec": spec.from_json(nested)} if isinstance(nested, Mapping) else dict(data)


def kind_of_request(request: JobRequest) -> JobKind:
    """The kind of job that a request asks for."""
    return next(kind for kind, shape in _REQUESTS.items() if type(request) is shape)


def parse_request(kind: JobKind, data: Mapping[str, Any]) -> JobRequest:
    """The request of a record.

    Raises:
        InvalidInput: for an unknown kind, field or value.
    """
    if kind not in _REQUESTS:
        raise InvalidInput("kind", kind, "not a kind of job", f"choose one of {', '.join(KINDS)}")
    return _REQUESTS[kind].from_json(data)


def request_digest(kind: JobKind, request: JobRequest) -> str:
    """The identity of a job's work: SHA-256 over its kind and canonical request."""
    return sha256(canonical_json({"kind": kind, "request": request.to_json()}))


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """One entry of a job's stream.

    Attributes:
        id: its place in the stream, ``<ms>-<n>``; later events have greater ones.
        event: ``state``, or what the work calls its progress (``epoch``, ``progress``).
        data: the rest, plain JSON. A ``state`` event has ``state``, and ``error`` when failed.
    """

    id: str
    event: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as Redis holds it.

    Attributes:
        request: what was asked, as plain JSON with every reference resolved.
        digest: `request_digest` of it.
        created_at, started_at, finished_at: UTC, ISO 8601; `started_at` of the first attempt.
        attempts: how often a worker took it; also the newest fencing token.
        lost_leases: how many of these attempts ended without a word.
        worker: the name of the newest worker that took it.
        cancel_requested: a running job was asked to stop, and will between two steps.
        waiting: why an unfinished job makes no headway now; None while it does.
        progress: its newest event, with ``event`` and the event's data.
        result: ``models`` (references), ``digests`` and what else the kind yields, once succeeded.
        error: why it has failed.
        problem: the same for a program, as `worker.failures.problem` makes it.
    """

    id: str
    kind: JobKind
    request: dict[str, Any]
    digest: str
    state: JobState
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    attempts: int = 0
    lost_leases: int = 0
    worker: str | None = None
    cancel_requested: bool = False
    waiting: str | None = None
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    problem: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether the state is terminal, and so will never change."""
        return self.state in TERMINAL

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON data."""
        return asdict(self)


def iso_utc(milliseconds: int) -> str:
    """Milliseconds since 1970 as ``2026-11-22T12:00:00.000Z``."""
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
