"""`moda train`, `decompose`, `evaluate` and `replace`: the commands that start a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moda_core.specs import TrainingSpec
from service.commands.following import follow
from service.commands.options import DEFAULT_HOME, DEFAULT_URL, AsJson, Detach, Device, Home, Local, Threshold, Url
from service.commands.work import show_job

if TYPE_CHECKING:
    from service import schemas
    from service.client import Client

__all__ = ["decompose", "evaluate", "replace", "train"]

Name = Annotated[str | None, typer.Option("--name", "-n", help="The name to publish under.")]


def train(
    *,
    dataset: Annotated[str, typer.Argument(help="A data set's name or digest.")],
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture",
            "-a",
            help="vgg16, resnet18, mobilenet, lenet5, cnn, cnn-gelu, vit or torchvision/NAME.",
        ),
    ] = "cnn",
    name: Name = None,
    objective: Annotated[
        Literal["modular", "standard"], typer.Option("--objective", help="standard is the cross-entropy alone.")
    ] = "modular",
    threshold: Threshold = None,
    epochs: Annotated[int, typer.Option("--epochs", "-e")] = 200,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 0.05,
    momentum: Annotated[float, typer.Option("--momentum")] = 0.9,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    alpha: Annotated[float, typer.Option("--alpha", help="Weight of affinity.")] = 1.0,
    beta: Annotated[float, typer.Option("--beta", help="Weight of dispersion.")] = 1.0,
    gamma: Annotated[float, typer.Option("--gamma", help="Weight of compactness.")] = 0.3,
    weighting: Annotated[
        Literal["class", "pair"], typer.Option("--weighting", help="What is averaged over.")
    ] = "class",
    compactness: Annotated[
        Literal["mean", "sum"], typer.Option("--compactness", help="Over a layer's units.")
    ] = "mean",
    epsilon: Annotated[float, typer.Option("--epsilon", help="A unit is active where |y| is above this.")] = 0.0,
    width: Annotated[float, typer.Option("--width", help="Multiplies the channels.")] = 1.0,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Pixels at the network's door.")] = None,
    crop_padding: Annotated[int, typer.Option("--crop-padding", help="0 for no random crop.")] = 4,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror images; the data set decides when left out.")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from torchvision's weights.")] = False,
    fraction: Annotated[float, typer.Option("--fraction", help="The share of the training images used.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    local: Local = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    url: Url = DEFAULT_URL,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Train a model; a modular one is decomposed at once. The defaults are the paper's recipe.

    --home and --device matter with --local only.
    """
    spec = TrainingSpec(
        dataset=dataset,
        architecture=architecture,
        objective=objective,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        weighting=weighting,
        compactness=compactness,
        epsilon=epsilon,
        width=width,
        image_size=image_size,
        crop_padding=crop_padding,
        flip=flip,
        pretrained=pretrained,
        fraction=fraction,
        seed=seed,
    )
    if local:
        from service.commands.local import train_here

        train_here(home, spec, name=name, threshold=threshold, device=device, as_json=as_json)
    else:
        _run(lambda client: client.train(spec.to_json(), name=name, threshold=threshold), url, detach, as_json)


def decompose(
    *,
    model: Annotated[str, typer.Argument(help="A trained model.")],
    threshold: Threshold = None,
    name: Name = None,
    url: Url = DEFAULT_URL,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Cut a trained model into one module per class."""
    _run(lambda client: client.decompose(model, threshold=threshold, name=name), url, detach, as_json)


def evaluate(
    *,
    model: Annotated[str, typer.Argument(help="A model or composition.")],
    dataset: Annotated[str, typer.Argument(help="The data set whose test images are used.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Compose the model for these first; may be repeated.")
    ] = None,
    threshold: Threshold = None,
    url: Url = DEFAULT_URL,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy on a data set's test images."""
    _run(
        lambda client: client.evaluate(model, dataset, classes=classes or None, threshold=threshold),
        url,
        detach,
        as_json,
    )


def replace(
    *,
    weak: Annotated[str, typer.Argument(help="The model to patch.")],
    strong: Annotated[str, typer.Argument(help="A modular or composed model that has the class.")],
    label: Annotated[str, typer.Argument(help="The class to patch.", metavar="CLASS")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Where the adaptation learns; the weak model's own when left out.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", "-e", help="Of the adaptation.")] = 20,
    name: Name = None,
    url: Url = DEFAULT_URL,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Patch one class of a weak model with a strong model's module."""
    _run(
        lambda client: client.replace(weak, strong, label, dataset=dataset, epochs=epochs, name=name),
        url,
        detach,
        as_json,
    )


def _run(start: Callable[[Client], schemas.Job], url: str, detach: bool, as_json: bool) -> None:
    """Start a job, watch it unless it is left alone, and show it."""
    from service.client import Client

    with Client(url) as client:
        job = start(client)
        show_job(job if detach else follow(client, job, quiet=as_json), as_json=as_json)
