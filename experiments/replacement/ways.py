"""The ways of replacing: the adaptation layer, and CNNSplitter's ranges; what each changes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.records.result_file import Row
from experiments.replacement.cells import INITIALS, RANGED, adaptation
from experiments.replacement.participants import Strong, Weak, answers_of
from moda_core.baselines.cnnsplitter import calibrated_scores, public_range, target_range
from moda_core.errors import InvalidInput
from moda_core.modularity.composition import compose
from moda_core.modularity.models import ModularModel
from moda_core.modularity.networks import splice
from moda_core.modularity.replacement import learn_adaptation
from moda_core.training.evaluation import accuracy

__all__ = ["replaced"]


def replaced(device: str, weak: Weak, strong: dict[str, Strong], seed: int) -> Iterator[Row]:
    """One row for each way of replacing: what it changed, and what the module weighs."""
    before = _right(weak, weak.test_logits, "before")
    for approach, model in strong.items():
        module = compose(model.modular, [weak.target])
        shown = {"module_size": model.sizes[weak.target], "strong_accuracy": model.accuracy, **_trained_on(model, weak)}
        for way, answers in _adapted(approach, module, weak, seed, device):
            yield {**way, **before, **_right(weak, answers, "after"), **shown}
        if approach == "MODA":
            for way, scores in _ranged(module, weak, model, device):
                after = {} if scores is None else _right(weak, scores, "after")
                yield {**way, **before, **after, **shown}


def _trained_on(strong: Strong, weak: Weak) -> Row:
    return {
        "model": strong.run.digest,
        "weak_model": weak.run.digest,
        "trained_on": strong.run.facts["conditions"],
        "weak_trained_on": weak.run.facts["conditions"],
    }


def _adapted(
    approach: str, module: ModularModel, weak: Weak, seed: int, device: str
) -> Iterator[tuple[Row, Float[Tensor, "test classes"]]]:
    """MODA's way: the adaptation layer, from each start."""
    train, test = (
        splice(own, answers_of(module, images, device)[:, 0], weak.position)
        for own, images in ((weak.train_logits, weak.train), (weak.test_logits, weak.test))
    )
    for initial in INITIALS:
        layer = learn_adaptation(train, weak.train.labels, adaptation(initial, seed))
        yield {"approach": approach, "initial": initial}, torch.nn.functional.linear(test, *layer)


def _ranged(
    module: ModularModel, weak: Weak, strong: Strong, device: str
) -> Iterator[tuple[Row, Float[Tensor, "test classes"] | None]]:
    """CNNSplitter's way, in both forms. A module whose logit is the same for all samples has no range, and so no scores."""
    answers = answers_of(module, weak.test, device)[:, 0]
    place = strong.modular.labels.index(weak.target)
    ranges = (
        partial(target_range, images=strong.part.validation, position=place),
        partial(public_range, images=strong.part.dataset.train),
    )
    for approach, range_of in zip(RANGED, ranges, strict=True):
        try:
            over = range_of(module, weak.target, device=device)
        except InvalidInput as error:
            yield {"approach": approach, "error": str(error)}, None
            continue
        scores = calibrated_scores(weak.test_logits, answers, weak.position, over)
        yield {"approach": approach, **over.to_json()}, scores


def _right(weak: Weak, answers: Float[Tensor, "test classes"], when: str) -> Row:
    """The right answers on the target's test images and on the others'."""
    target = weak.test.labels == weak.position
    found = {"tc": target, "non_tc": ~target}
    counted = {part: accuracy(answers[chosen], weak.test.labels[chosen]) for part, chosen in found.items()}
    return {f"{part}_{when}": {"correct": one.correct, "n": one.samples} for part, one in counted.items()}
