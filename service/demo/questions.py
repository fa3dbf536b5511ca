"""What the demo asks the service, and how it counts the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from service.client import Client
from service.demo.digits import Digits
from service.demo.findings import Adaptation, Composed, Replaced, Sample, Tally
from service.schemas import PredictionList

__all__ = ["accuracy", "compositions", "replaced", "samples", "subsets_of"]

_SHOWN_PAIRS = (("3", "8"), ("1", "7"))


def subsets_of(labels: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """All subsets of these sizes, the smaller first."""
    return [classes for size in sizes for classes in combinations(labels, size)]


def accuracy(answer: PredictionList, digits: Digits) -> Tally:
    """How many of all test images were answered rightly."""
    return _tally(answer, digits.truth)


def compositions(
    client: Client,
    model: str,
    subsets: Sequence[tuple[str, ...]],
    whole: PredictionList,
    digits: Digits,
    progress: Callable[[int, int], None],
) -> list[Composed]:
    """Compose `model` for each of some subsets of its classes, and ask it about their test images.

    `whole` is what the whole model answers to all test images; `progress` is told how many of how many are done.
    """
    done: list[Composed] = []
    for classes in subsets:
        done.append(_composed(client, model, classes, whole, digits))
        progress(len(done), len(subsets))
    return done


def _composed(client: Client, model: str, classes: tuple[str, ...], whole: PredictionList, digits: Digits) -> Composed:
    made = client.compose(model, classes)
    asked = digits.of(classes)
    truth = [digits.truth[index] for index in asked]
    answer = client.predict(made.id, [digits.files[index] for index in asked])
    restricted = [_best_of(classes, whole, index) for index in asked]
    return Composed(
        classes=classes,
        composed=_tally(answer, truth),
        whole=Tally(sum(map(str.__eq__, restricted, truth)), len(truth)),
        kept_parameters=made.kept_parameters,
        original_parameters=made.original_parameters,
        kept_flops=made.kept_flops,
        original_flops=made.original_flops,
        compose_ms=made.compose_ms or 0.0,
    )


def _best_of(classes: Sequence[str], whole: PredictionList, index: int) -> str:
    """The likeliest of some classes, by the whole model: the order of logits and probabilities is the same."""
    probabilities = dict(zip(whole.classes, whole.predictions[index].probabilities, strict=True))
    return max(classes, key=probabilities.__getitem__)


def replaced(
    label: str, adaptation: Adaptation, before: PredictionList, after: PredictionList, digits: Digits
) -> Replaced:
    """A patched class: the weak model's answers beside the patched model's."""
    target = digits.of([label])
    others = [index for index in range(len(digits.truth)) if digits.truth[index] != label]

    def tally(answer: PredictionList, indices: Sequence[int]) -> Tally:
        right = sum(answer.predictions[index].label == digits.truth[index] for index in indices)
        return Tally(right, len(indices))

    return Replaced(
        label=label,
        adaptation=adaptation,
        target_before=tally(before, target),
        target_after=tally(after, target),
        others_before=tally(before, others),
        others_after=tally(after, others),
    )


def samples(client: Client, model: str, digits: Digits) -> list[Sample]:
    """One image of each class as a raw body to the whole model, and some to composed pairs."""
    shown = [_sample(client, model, "whole model", digits.of([label])[0], digits) for label in digits.labels]
    for classes in _SHOWN_PAIRS:
        made = client.compose(model, classes)
        shown.append(_sample(client, made.id, f"of {' and '.join(classes)}", digits.of(classes[:1])[1], digits))
    return shown


def _sample(client: Client, model: str, words: str, index: int, digits: Digits) -> Sample:
    answer = client.predict_raw(model, digits.files[index]).predictions[0]
    return Sample(index, digits.truth[index], answer.label, answer.probability, words)


def _tally(answer: PredictionList, truth: Sequence[str]) -> Tally:
    right = sum(one.label == label for one, label in zip(answer.predictions, truth, strict=True))
    return Tally(right, len(truth))
