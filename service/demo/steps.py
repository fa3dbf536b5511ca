"""The demo's work for one seed: everything through HTTP, step by step, each step timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.client import Client
from service.commands.following import Watcher, watching
from service.demo.digits import Digits
from service.demo.findings import Adaptation, ModelFindings, Replaced, SeedFindings
from service.demo.questions import accuracy, compositions, replaced, samples, subsets_of
from service.schemas import Job, PredictionList

__all__ = ["Recipe", "Stage", "one_seed"]

THRESHOLD = "0.9"
WEAK_FRACTION = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the demo's models are trained.

    Attributes:
        epochs: of the modular and the standard model.
        weak_epochs: of the weak model, on a tenth of the training images.
        subset_sizes: all subsets of so many classes are composed.
    """

    architecture: str = "cnn"
    epochs: int = 60
    weak_architecture: str = "lenet5"
    weak_epochs: int = 60
    adaptation_epochs: int = 20
    subset_sizes: tuple[int, ...] = (2, 3)
    seed: int = 0


@dataclass
class Stage:
    """Where the demo plays: the service, the images, and who watches.

    Attributes:
        said: told each step's name and seconds when it is done; without seconds, a headline.
        bars: whether to show each step's progress.
        seconds: of each step, of this seed.
    """

    client: Client
    digits: Digits
    said: Callable[[str, float | None], None]
    bars: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Watcher]:
        """Time a step, and watch it."""
        started = time.monotonic()
        with watching(name, quiet=not self.bars) as watch:
            yield watch
        self.seconds[name] = time.monotonic() - started
        self.said(name, self.seconds[name])

    def finished(self, job: Job, watch: Watcher) -> Job:
        """The job, once it has succeeded."""
        return self.client.wait(job.id, lambda event: watch(event.event, event.data))

    def answers(self, model: str) -> PredictionList:
        """What a model says to every test image."""
        return self.client.predict(model, self.digits.files)


def one_seed(stage: Stage, recipe: Recipe) -> SeedFindings:
    """Train, decompose, compose, predict and replace with one seed; what was found."""
    stage.seconds = {}
    modular = _trained_modular(stage, recipe)
    standard = _trained_standard(stage, recipe)
    weak = _trained_weak(stage, recipe)
    found = [
        _explored(stage, kind, reference, recipe) for kind, reference in (("modular", modular), ("standard", standard))
    ]
    with stage.step("Predict some images"):
        shown = samples(stage.client, modular, stage.digits)
    before = stage.answers(weak)
    return SeedFindings(
        seed=recipe.seed,
        modular=found[0],
        standard=found[1],
        weak=accuracy(before, stage.digits),
        weak_images=stage.digits.train_images(WEAK_FRACTION, recipe.seed),
        replaced=_replacements(stage, weak, modular, before, recipe),
        samples=shown,
        seconds=stage.seconds,
    )


# Training


def _spec(stage: Stage, recipe: Recipe, **more: Any) -> dict[str, Any]:
    return {"dataset": stage.digits.digest, "seed": recipe.seed, **more}


def _trained_modular(stage: Stage, recipe: Recipe) -> str:
    spec = _spec(stage, recipe, architecture=recipe.architecture, epochs=recipe.epochs)
    with stage.step("Train modular, decompose") as watch:
        job = stage.client.train(spec, name=f"digits-{recipe.architecture}", threshold=THRESHOLD)
        return _last_model(stage.finished(job, watch))


def _trained_standard(stage: Stage, recipe: Recipe) -> str:
    spec = _spec(stage, recipe, architecture=recipe.architecture, epochs=recipe.epochs, objective="standard")
    name = f"digits-{recipe.architecture}-standard"
    with stage.step("Train standard") as watch:
        trained = _last_model(stage.finished(stage.client.train(spec, name=name), watch))
    with stage.step("Decompose standard") as watch:
        return _last_model(stage.finished(stage.client.decompose(trained, threshold=THRESHOLD), watch))


def _trained_weak(stage: Stage, recipe: Recipe) -> str:
    spec = _spec(
        stage,
        recipe,
        architecture=recipe.weak_architecture,
        epochs=recipe.weak_epochs,
        objective="standard",
        fraction=WEAK_FRACTION,
    )
    with stage.step("Train weak") as watch:
        return _last_model(stage.finished(stage.client.train(spec, name="digits-weak"), watch))


def _last_model(job: Job) -> str:
    """The reference of what a job published last: after decomposing, the modular version."""
    return str((job.result or {})["models"][-1])


# What the models do


def _explored(stage: Stage, kind: str, reference: str, recipe: Recipe) -> ModelFindings:
    """Accuracy, modules and all compositions of a decomposed model."""
    whole = stage.answers(reference)
    with stage.step(f"Compose {kind}, predict") as watch:
        composed = compositions(
            stage.client,
            reference,
            subsets_of(stage.digits.labels, recipe.subset_sizes),
            whole,
            stage.digits,
            lambda done, total: watch("progress", {"done": done, "total": total}),
        )
    modules = stage.client.modules(reference)
    return ModelFindings(
        reference=reference,
        architecture=recipe.architecture,
        objective=kind,
        accuracy=accuracy(whole, stage.digits),
        parameters=composed[0].original_parameters,
        sizes={one.label: one.size or 0.0 for one in modules.modules},
        overlaps=_pairs(modules.overlaps),
        compositions=composed,
        module_map=_module_map(stage.client, reference),
    )


def _pairs(overlaps: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], float]:
    """By pair what the service answers by first and second class."""
    return {(first, second): share for first, others in overlaps.items() for second, share in others.items()}


def _module_map(client: Client, reference: str) -> Mapping[str, Sequence[Sequence[bool]]]:
    """Which units each class's module holds, read from the model's file as anyone can download it."""
    from moda_core.modularity.composition import check_composable, composition_masks
    from moda_core.storage import artifacts
    from moda_core.structure.unitgraph import unit_graph

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        client.download_weights(reference, file)
        model = check_composable(artifacts.decode(file))
    by_class = [composition_masks(model, [label]) for label in model.labels]
    layers = [layer.name for layer in unit_graph(model.architecture).layers]
    return {layer: [masks[layer].tolist() for masks in by_class] for layer in layers}


# Replacement


def _replacements(stage: Stage, weak: str, strong: str, before: PredictionList, recipe: Recipe) -> list[Replaced]:
    """Every class patched in turn, with both ways to learn the adaptation; all jobs wait in line at once."""
    wanted: list[tuple[str, Adaptation]] = [(label, how) for label in stage.digits.labels for how in ("tenth", "all")]
    found = []
    with stage.step("Replace every class, predict") as watch:
        jobs = [
            stage.client.replace(
                weak,
                strong,
                label,
                dataset=None if how == "tenth" else stage.digits.digest,
                epochs=recipe.adaptation_epochs,
                name=f"digits-weak-{label}-{how}",
            )
            for label, how in wanted
        ]
        for (label, how), job in zip(wanted, jobs, strict=True):
            patched = _last_model(stage.client.wait(job.id))
            found.append(replaced(label, how, before, stage.answers(patched), stage.digits))
            watch("progress", {"done": len(found), "total": len(wanted)})
    return found
