"""MwT's reuse of some of a model's classes: compose, append a head, fine-tune on their training images.

The epoch that counts is the best on a *validation* part, which is split off these images, stratified, under
the seed, and not trained on. (MwT's public code chooses it on the test set.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from moda_core.baselines.mwt.composition import Answering, class_positions, compose_with_head
from moda_core.baselines.mwt.modules import ModuleMasks
from moda_core.baselines.mwt.training import MwtModel
from moda_core.baselines.mwt.tuning import FineTuned, FineTuningReport, FineTuningSpec, fine_tune
from moda_core.data.dataset import Images, split
from moda_core.errors import InvalidInput
from moda_core.training.surroundings import never

__all__ = ["reuse_fine_tuned", "sub_task"]


def reuse_fine_tuned(
    model: MwtModel,
    modules: ModuleMasks,
    labels: Sequence[str],
    images: Images,
    spec: FineTuningSpec,
    *,
    mirror: bool,
    keep_generators: bool = False,
    device: torch.device | str = "cpu",
    progress: Callable[[FineTuningReport], None] | None = None,
    cancelled: Callable[[], bool] = never,
) -> FineTuned:
    """MwT's reuse of some classes, whole: compose, append the head, split the images, fine-tune.

    Args:
        model: whole.
        modules: of its classes.
        labels: of the two or more classes wanted.
        images: training images, labelled by the model's classes; others than those wanted are left out.
        spec: how.
        mirror: whether mirror images keep their class.
        keep_generators: keep the generators, cut, and train them too.
        device: where.
        progress: hears of every epoch.
        cancelled: asked before every batch.

    Raises:
        InvalidInput, NotFound: for classes that cannot be composed.
        Cancelled, TrainingFailure: as `fine_tune`.
    """
    if len(labels) < 2:
        raise InvalidInput("classes", list(labels), "one class alone cannot be learned", "give two or more")
    positions = class_positions(model, labels)
    body = compose_with_head(model, modules, labels, spec.seed, keep_generators=keep_generators)
    network = Answering(tuple(model.labels[place] for place in positions), model.input, body)
    training, validation = split(sub_task(images, positions), spec.validation_share, spec.seed)
    return fine_tune(
        network, training, validation, spec, mirror=mirror, device=device, progress=progress, cancelled=cancelled
    )


def sub_task(images: Images, positions: Sequence[int]) -> Images:
    """The images of some classes, labelled by the place of their class among them."""
    places = torch.tensor(positions, device=images.labels.device)
    matches = images.labels[:, None] == places
    chosen = matches.any(dim=1)
    return Images(images.pixels[chosen], matches[chosen].to(torch.int64).argmax(dim=1))
