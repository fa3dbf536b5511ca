"""What the HTTP interface reads and answers, as pydantic models with the words of its documentation.

Requests are strict: an unknown member or a wrong JSON type is refused. Ranges are checked by the
specs of `moda_core`, in one place for the library, the worker and the service.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

__all__ = [
    "Alias",
    "AliasList",
    "AliasRequest",
    "ComposeRequest",
    "Composition",
    "CompositionList",
    "CompositionSummary",
    "Dataset",
    "DatasetImport",
    "DatasetList",
    "DecomposeRequest",
    "Digest",
    "ErrorItem",
    "EvaluateRequest",
    "Health",
    "Instance",
    "Job",
    "JobEvent",
    "JobKind",
    "JobList",
    "JobProblem",
    "JobState",
    "Kind",
    "Links",
    "Model",
    "ModelList",
    "ModelSummary",
    "Module",
    "ModuleList",
    "PredictRequest",
    "Prediction",
    "PredictionList",
    "Problem",
    "Readiness",
    "Reference",
    "ReplaceRequest",
    "ThresholdInput",
    "TrainRequest",
    "TrainingSpecBody",
]

Kind = Literal["trained", "modular", "composed", "patched"]
JobKind = Literal["train", "decompose", "replace", "evaluate", "import"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Links = dict[str, str]

MAX_REFERENCE = 200
"""Characters of a reference."""

MAX_LABEL = 500
"""Characters of a class's label."""

MAX_CLASSES = 100_000
"""Classes that one request may name."""

MAX_IMAGES = 1024
"""Images of one prediction."""

Reference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_REFERENCE,
        description="`name`, `name@3`, `name@alias` or a digest; a name alone is its latest version.",
        examples=["digits-cnn", "digits-cnn@2", "digits-cnn@prod"],
    ),
]
Digest = Annotated[str, Field(description="SHA-256, 64 lower-case hexadecimal digits.", examples=["9f86d081" * 8])]
_Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL, examples=["cat"])]
_Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="1 to 64 of `a-z 0-9 . _ -`, a letter or digit at both ends.",
        examples=["digits-cnn"],
    ),
]
ThresholdInput = Annotated[
    StrictStr | StrictInt | StrictFloat,
    Field(
        description="τ: a unit belongs to a class's module when it was active for at least this share of the class's "
        "samples. A decimal from 0 to 1 with at most 4 places, as a string or a number.",
        examples=["0.9", 0.9],
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True, validate_by_alias=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


# What is asked


class ComposeRequest(_Request):
    """A model for some classes of a modular one."""

    model: Reference
    classes: list[_Label] = Field(
        max_length=MAX_CLASSES,
        description="The classes wanted, by label; answers keep this order.",
        examples=[["cat", "dog"]],
    )
    threshold: ThresholdInput | None = Field(
        default=None, description="τ; the model's own when left out. On a composed model it may only rise."
    )


class Instance(_Request):
    """One image of a JSON prediction."""

    b64: str = Field(description="An image file (PNG, JPEG, ...) in base64.", examples=["iVBORw0KGgoAAAANSUhEUg=="])


class PredictRequest(_Request):
    """Images to classify, as JSON."""

    model: Reference = Field(description="A model reference or a composition's id.")
    classes: list[_Label] | None = Field(
        default=None,
        max_length=MAX_CLASSES,
        description="Compose the model for these classes first; answers keep this order.",
    )
    threshold: ThresholdInput | None = Field(
        default=None, description="τ of that composition; the model's own when left out."
    )
    instances: list[Instance] = Field(min_length=1, max_length=MAX_IMAGES)


class TrainingSpecBody(_Request):
    """One training run, whole. The defaults are the paper's recipe."""

    dataset: Reference = Field(description="A data set's name or digest.", examples=["digits"])
    architecture: str = Field(
        max_length=100,
        description="`vgg16`, `resnet18`, `mobilenet`, `lenet5`, `cnn`, `cnn-gelu`, `vit`, or a torchvision "
        "classifier as `torchvision/<name>`.",
        examples=["cnn", "torchvision/resnet50"],
    )
    width: float = Field(
        default=1.0, description="Multiplies the channels of our own architectures; above 0, at most 16."
    )
    image_size: int | None = Field(
        default=None,
        description="Pixels per side at the network's door, 8 to 1024; the architecture's default when left out.",
    )
    pretrained: bool = Field(default=False, description="Start from torchvision's weights, which are downloaded.")
    objective: Literal["modular", "standard"] = Field(
        default="modular", description="`modular` adds affinity, dispersion and compactness to the cross-entropy."
    )
    alpha: float = Field(default=1.0, description="Weight of affinity within a class; at least 0.")
    beta: float = Field(default=1.0, description="Weight of dispersion between classes; at least 0.")
    gamma: float = Field(default=0.3, description="Weight of compactness; at least 0.")
    weighting: Literal["class", "pair"] = Field(
        default="class", description="Average over classes, as the equations do, or over sample pairs."
    )
    compactness: Literal["mean", "sum"] = Field(default="mean", description="Over the units of a layer.")
    epsilon: float = Field(
        default=0.0, description="A unit is active where |y| > epsilon; above 0 for activations that never reach zero."
    )
    epochs: int = Field(default=200, description="1 to 100,000.")
    batch_size: int = Field(default=128, description="1 to 65,536.")
    learning_rate: float = Field(default=0.05, description="At the start; cosine decay to zero.")
    momentum: float = Field(default=0.9, description="Nesterov momentum, 0 to 0.9999.")
    weight_decay: float = Field(default=0.0, description="At least 0.")
    crop_padding: int = Field(default=4, description="Pixels of zero padding before a random crop, 0 to 64.")
    flip: bool | None = Field(default=None, description="Random mirror images; the data set decides when left out.")
    fraction: float = Field(
        default=1.0, description="The stratified share of the training images used, above 0, at most 1."
    )
    seed: int = Field(default=0, description="Of initial weights, order of batches, augmentation and `fraction`.")


class TrainRequest(_Request):
    """Train a model; with the modular objective (or a threshold) go on to decompose it."""

    name: _Name | None = Field(
        default=None, description="Under which the versions appear; `<data set>-<architecture>` when left out."
    )
    spec: TrainingSpecBody
    threshold: ThresholdInput | None = Field(
        default=None,
        description="τ of the decomposition that follows; 0.9 for the modular objective, none for the standard.",
    )


class DecomposeRequest(_Request):
    """Cut a trained model into one module per class."""

    model: Reference
    threshold: ThresholdInput = Field(default="0.9", description="τ.")
    name: _Name | None = Field(default=None, description="Of the modular version; the model's own name when left out.")


class ReplaceRequest(_Request):
    """Patch one class of a weak model with a strong model's module."""

    weak: Reference = Field(description="The model to patch.", examples=["digits-weak"])
    strong: Reference = Field(description="A modular or composed model that has the class.", examples=["digits-cnn"])
    label: _Label = Field(
        validation_alias="class",
        serialization_alias="class",
        description="The class whose module is taken.",
        examples=["3"],
    )
    dataset: Reference | None = Field(
        default=None,
        description="On which the adaptation layer learns; the weak model's own training data when left out.",
        examples=["digits"],
    )
    epochs: int = Field(default=20, ge=0, le=100_000, description="Of the adaptation layer.")
    name: _Name | None = Field(
        default=None, description="Of the patched version; `<weak's name>-patched` when left out."
    )


class EvaluateRequest(_Request):
    """Accuracy on a data set's test images."""

    model: Reference
    classes: list[_Label] | None = Field(
        default=None, max_length=MAX_CLASSES, description="Compose the model for these first."
    )
    dataset: Reference = Field(examples=["digits"])
    threshold: ThresholdInput | None = Field(
        default=None, description="τ of that composition; the model's own when left out."
    )


class DatasetImport(_Request):
    """A data set that the server can reach by itself."""

    name: _Name = Field(examples=["digits"])
    source: str = Field(
        min_length=1,
        max_length=1000,
        description="`digits`, a path below the server's import folder (an `.npz`, a `.zip`, or a folder of class "
        "folders), or `cifar10:PATH`, `cifar100:PATH`, `svhn:PATH`, `mnist:PATH`, `fashion-mnist:PATH` below it.",
        examples=["digits", "cifar10:cifar-10-batches-bin"],
    )
    image_size: int | None = Field(default=None, ge=8, le=1024, description="Resize to this many pixels per side.")
    seed: int = Field(default=0, ge=0, description="Of the split, where the source has none of its own.")
    download: bool = Field(
        default=False,
        description="Fetch official files that are not there: `cifar10`, `cifar100`, `svhn`, `mnist` and "
        "`fashion-mnist` alone are kept in the worker's own folder.",
    )


class AliasRequest(_Request):
    """Point an alias at a version of its model."""

    version: int | None = Field(default=None, ge=1, description="The version's number.", examples=[2])
    digest: Digest | None = Field(default=None, description="Instead of `version`.")


# What inference answers


class Composition(_Answer):
    """A composed model: its recipe, and how much of the original it keeps."""

    id: Digest = Field(description="Of the recipe; the same request always gives the same id.")
    model: Digest = Field(description="Of the model that it is composed from.")
    classes: list[str] = Field(description="In the order of the request (of the model, on `GET`).")
    threshold: str = Field(description="τ, canonical.", examples=["0.9"])
    kept_parameters: int
    original_parameters: int
    kept_flops: int = Field(description="Per image; a multiply-add counts as two.")
    original_flops: int
    overlap: float = Field(
        description="Elements that two of its modules share / parameters of the original, mean over pairs."
    )
    compose_ms: float | None = Field(
        default=None,
        description="From the request to a model that can predict; absent on `GET`. Near zero when cached.",
    )
    links: Links = Field(examples=[{"self": "/compositions/9f86…", "weights": "/compositions/9f86…/weights"}])


class CompositionSummary(_Answer):
    """The recipe of a stored composition."""

    id: Digest
    model: Digest
    classes: list[str] = Field(description="In the order of the model.")
    threshold: str
    links: Links


class CompositionList(_Answer):
    """Every stored composition."""

    compositions: list[CompositionSummary]


class Prediction(_Answer):
    """The answer for one image."""

    label: str = Field(examples=["cat"])
    probability: float = Field(ge=0, le=1, examples=[0.98])
    probabilities: list[float] = Field(description="One per class, in the order of `classes`.", examples=[[0.98, 0.02]])


class PredictionList(_Answer):
    """The answers, in the order of the images."""

    model: Digest
    composition: Digest | None = Field(default=None, description="When a composition answered.")
    classes: list[str] = Field(examples=[["cat", "dog"]])
    predictions: list[Prediction]


# What jobs answer


class JobProblem(_Answer):
    """Why a job has failed, in the members of a problem document."""

    code: str = Field(examples=["training-failure"])
    field: str | None = None
    value: Any = None
    remedy: str | None = None


class Job(_Answer):
    """A job's record."""

    id: str
    kind: JobKind
    state: JobState
    request: dict[str, Any] = Field(description="What was asked, with every reference resolved to its digest.")
    created_at: str = Field(description="UTC, ISO 8601.", examples=["2026-11-22T12:00:00Z"])
    started_at: str | None = None
    finished_at: str | None = None
    attempts: int = Field(default=0, description="How often a worker took it.")
    worker: str | None = Field(default=None, description="The newest worker that took it.")
    cancel_requested: bool = Field(default=False, description="It was asked to stop, and will between two steps.")
    waiting: str | None = Field(default=None, description="Why an unfinished job makes no headway now.")
    progress: dict[str, Any] | None = Field(
        default=None,
        description="Its newest event: epoch, losses, accuracy, samples per second, seconds left.",
        examples=[{"event": "epoch", "epoch": 3, "epochs": 30, "loss": 0.41, "remaining_s": 12.5}],
    )
    result: dict[str, Any] | None = Field(
        default=None, description="When it has succeeded.", examples=[{"models": ["digits-cnn@1", "digits-cnn@2"]}]
    )
    error: str | None = Field(default=None, description="Why it has failed.")
    problem: JobProblem | None = Field(default=None, description="The same, for a program.")
    links: Links = Field(examples=[{"self": "/jobs/6f1c", "events": "/jobs/6f1c/events"}])


class JobList(_Answer):
    """Jobs, newest first."""

    jobs: list[Job]


class JobEvent(_Answer):
    """The data of one server-sent event; its `id` resumes the stream as `Last-Event-ID`."""

    event: str = Field(description="`state`, `epoch`, `progress`, ...; also the event's name.")
    data: dict[str, Any]


# What models answer


class ModelSummary(_Answer):
    """One version of a named model, or a model by its digest."""

    reference: str = Field(examples=["digits-cnn@2"])
    name: str | None = None
    version: int | None = None
    digest: Digest
    kind: Kind
    architecture: str = Field(examples=["cnn"])
    classes: list[str]
    threshold: str | None = Field(default=None, description="τ of a modular or composed model.")
    accuracy: float | None = Field(default=None, description="On the test images, when it was measured.")
    created_at: str | None = Field(default=None, description="When the version appeared; UTC, ISO 8601.")
    aliases: list[str] = Field(default=[], examples=[["latest", "prod"]])
    links: Links


class ModelList(_Answer):
    """Models, by name; each with its live versions, newest first."""

    models: list[ModelSummary]


class Model(ModelSummary):
    """A model with everything that its manifest says."""

    architecture_arguments: dict[str, Any]
    input: dict[str, Any] = Field(description="Size, channels, mean and standard deviation at the network's door.")
    spec: dict[str, Any] | None = Field(default=None, description="What was asked for when it was made.")
    spec_digest: Digest | None = None
    execution: dict[str, Any] = Field(default={}, description="Threads, device class and library versions.")
    serving: dict[str, Any] | None = Field(
        default=None,
        description="The forms in which it, its compositions, and batches of many of these run here, and how every form "
        "that was tried did; null until it was measured.",
    )
    dataset: dict[str, Any] | None = Field(default=None, description="The training data: digest, fraction and seed.")
    metrics: dict[str, Any] = {}
    sizes: dict[str, Any] = Field(default={}, description="Module size per class, as a part of the original.")
    overlaps: dict[str, Any] = Field(
        default={}, description="Elements that pairs of modules share, as parts of the original."
    )
    lineage: dict[str, Any] = Field(default={}, description="The digests of the models that it was made from.")
    blobs: dict[str, Any] = Field(default={}, description="Its files: digest and length by role.")


class Module(_Answer):
    """One class's module."""

    label: str = Field(validation_alias="class", serialization_alias="class", examples=["cat"])
    size: float | None = Field(
        default=None, description="Kept parameters / parameters of the original.", examples=[0.27]
    )
    digest: Digest | None = Field(default=None, description="Of its file.")
    size_bytes: int | None = None
    links: Links


class ModuleList(_Answer):
    """The modules of a modular model."""

    model: Digest
    threshold: str
    modules: list[Module]
    overlaps: dict[str, Any] = Field(
        default={}, description="Elements that pairs of modules share, as parts of the original."
    )


class Alias(_Answer):
    """Where an alias points. Its `ETag` guards a change made with `If-Match`."""

    name: str
    alias: str = Field(examples=["prod"])
    version: int | None = None
    digest: Digest
    etag: str = Field(description="The value for `If-Match`.", examples=['"7"'])


class AliasList(_Answer):
    """The aliases of a model."""

    aliases: list[Alias]


# What data sets, health and errors answer


class Dataset(_Answer):
    """An imported data set."""

    reference: str = Field(examples=["digits@1"])
    name: str | None = None
    version: int | None = None
    digest: Digest
    classes: list[str]
    train: int = Field(description="Training images.")
    test: int = Field(description="Test images.")
    image: list[int] = Field(description="Channels, height, width.", examples=[[1, 8, 8]])
    links: Links


class DatasetList(_Answer):
    """Every data set."""

    datasets: list[Dataset]


class Health(_Answer):
    """The process is alive."""

    status: Literal["ok"] = "ok"
    version: str = Field(examples=["0.1.0"])


class Readiness(_Answer):
    """What works now: registry and device decide readiness; without `redis` only jobs are refused."""

    status: Literal["ready", "not ready"]
    registry: str = Field(examples=["ok"])
    redis: str = Field(examples=["ok"])
    device: str = Field(examples=["cpu"])
    device_state: str = Field(default="ok", examples=["ok"])


class ErrorItem(_Answer):
    """One member of a request that cannot be used."""

    field: str = Field(examples=["spec.epochs"])
    value: Any = Field(default=None, description="What was given, cut short.")
    detail: str
    remedy: str | None = None


class Problem(_Answer):
    """An error, by RFC 9457."""

    type: str = Field(examples=["urn:moda:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(examples=["there is no class 'cow'; known are cat, dog"])
    instance: str = Field(description="The path of the request.", examples=["/compose"])
    code: str = Field(description="The problem's short name, for programs.", examples=["not-found"])
    field: str | None = Field(default=None, description="The member of the request that is wrong.")
    value: Any = Field(default=None, description="What was given, cut short.")
    remedy: str | None = Field(default=None, description="What to do instead.")
    request_id: str
    errors: list[ErrorItem] | None = Field(default=None, description="All of them, where a request has several.")
