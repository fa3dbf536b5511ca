"""RQ2, replacement: a strong model's module answers for one class of a weak model (table 2 of the MODA paper).

    python -m experiments.rq2 replacement --dataset cifar10=cifar10.npz --strong vgg16 resnet18 --seeds 5

Every target class in turn, for an overfitted and an underfitted weak model; each cell compares

- ``MODA``: the module of a modularly trained model, then the adaptation layer, learnt on the images
  that the weak model was trained on, from both starts (``initial``);
- ``ST-composed``: the same with the module of a strong model trained the standard way;
- ``CNNSplitter`` and ``CNNSplitter-public``: MODA's module, its logit scaled by a range instead: over
  the held-out images of the target class, or over all the strong model's training images.

A row holds the right answers before and after, on all test images of the target class (``tc``) and of
the others together (``non_tc``), the module's size, what trained the models (``spec`` of the strong one, ``weak_spec``,
``adaptation_spec``: digests; ``trained_on``, ``weak_trained_on``: conditions), or instead of ``after`` the ``error`` that
there is none. Rows that a result file has are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.models.decomposition import modular_model
from experiments.models.moda import Run, trained
from experiments.models.training import How
from experiments.records.result_file import ResultFile, Row
from experiments.replacement.models import WEAK_KINDS, Part, strong_part, strong_spec, targets, weak_part, weak_spec
from experiments.setup.options import add_surroundings, check_positive, setting_of
from experiments.setup.program import program_parser
from experiments.setup.progress import Progress
from experiments.setup.setting import Setting
from moda_core.baselines.cnnsplitter import calibrated_scores, public_range, target_range
from moda_core.data.dataset import Images, subset
from moda_core.errors import InvalidInput
from moda_core.modularity.composition import compose
from moda_core.modularity.measures import module_measures
from moda_core.modularity.models import Model, ModularModel
from moda_core.modularity.networks import network, splice
from moda_core.modularity.replacement import learn_adaptation
from moda_core.specs import AdaptationSpec
from moda_core.training.evaluation import accuracy, logits

__all__ = ["INITIALS", "QUESTION", "Cell", "main", "measure", "missing"]

QUESTION = "rq2-replacement"
INITIALS = ("identity", "normal")
"""Both starts of the adaptation layer; the first is the default, and the table's."""

Cell = tuple[int, str, str]
_OBJECTIVES = {"MODA": "modular", "ST-composed": "standard"}
_RANGED = ("CNNSplitter", "CNNSplitter-public")
_WAYS = (*product(_OBJECTIVES, INITIALS), *((approach, None) for approach in _RANGED))
_NAMES = ("weak", "weak_epochs", "target", "seed", "approach", "initial")
_SPECS = ("spec", "weak_spec", "adaptation_spec")


@dataclass(frozen=True)
class _Strong:
    """A strong model cut into modules, the images it saw and did not see, and how good it is."""

    run: Run
    part: Part
    modular: ModularModel
    accuracy: Row

    @cached_property
    def sizes(self) -> dict[str, float]:
        """Of each module, as a share of the model's parameters."""
        return dict(module_measures(self.modular).sizes)


@dataclass(frozen=True)
class _Weak:
    """A weak model's answers to the images it learnt from and to those it is tested on; the target is last."""

    run: Run
    target: str
    train: Images
    test: Images
    train_logits: Float[Tensor, "train classes"]
    test_logits: Float[Tensor, "test classes"]

    @property
    def position(self) -> int:
        """The target's place among the logits."""
        return self.train_logits.shape[1] - 1


def measure(setting: Setting, weak_epochs: int) -> None:
    """Measure the rows of one strong model that its result file lacks; those of a cell are written together."""
    file = ResultFile(setting.result_path(QUESTION))
    file.begin(setting.invocation())
    found = {_identity(row, (*_NAMES, *_SPECS)) for row in file.measured()}
    wanted = _wanted(setting, weak_epochs)
    lacking = {
        cell: [head for head in heads if _identity(head, (*_NAMES, *_SPECS)) not in found]
        for cell, heads in wanted.items()
    }
    cells = [cell for cell, heads in lacking.items() if heads]
    with Progress(f"replacement {setting.name} {setting.model}", len(cells)) as progress:
        for seed in dict.fromkeys(seed for seed, _, _ in cells):
            strong = {approach: _strong(setting, objective, seed) for approach, objective in _OBJECTIVES.items()}
            for cell in cells:
                if cell[0] == seed:
                    weak = _weak(setting, cell, weak_epochs)
                    rows = {
                        (row["approach"], row.get("initial")): row for row in _rows(setting.device, weak, strong, seed)
                    }
                    file.extend(head | rows[head["approach"], head.get("initial")] for head in lacking[cell])
                    progress.advance()


def missing(setting: Setting, classes: Sequence[str], weak_epochs: int) -> list[Cell]:
    """The cells of which a result file lacks a row: seed, kind of weak model, target class.

    No images are read for it: rows of models by any spec count, where `measure` asks for those of today's.
    """
    found = {_identity(row, _NAMES) for row in ResultFile(setting.result_path(QUESTION)).measured()}
    return [
        cell
        for cell in _cells(setting, classes)
        if any(_identity(_head(cell, weak_epochs, *way), _NAMES) not in found for way in _WAYS)
    ]


def _cells(setting: Setting, classes: Sequence[str]) -> list[Cell]:
    return list(product(setting.seeds, WEAK_KINDS, targets(classes)))


def _wanted(setting: Setting, weak_epochs: int) -> dict[Cell, list[Row]]:
    """How each row of each cell begins; a part of the data set is made once, and no two are held at a time."""
    dataset, cells = setting.dataset, _cells(setting, setting.dataset.classes)
    strong = {seed: _strong_specs(setting, strong_part(dataset, seed), seed) for seed in setting.seeds}
    weak = {
        (seed, kind, target): weak_spec(part, kind, weak_epochs, seed).digest()[:16]
        for target in targets(dataset.classes)
        for part in [weak_part(dataset, target)]
        for seed, kind in product(setting.seeds, WEAK_KINDS)
    }
    return {
        cell: [
            _head(cell, weak_epochs, approach, initial)
            | {"strong": setting.model, "weak_spec": weak[cell]}
            | _specs(strong[cell[0]], approach, initial, cell[0])
            for approach, initial in _WAYS
        ]
        for cell in cells
    }


def _head(cell: Cell, weak_epochs: int, approach: str, initial: str | None) -> Row:
    seed, kind, target = cell
    head = {"kind": "replacement", "weak": kind, "weak_epochs": weak_epochs, "target": target, "seed": seed}
    return head | {"approach": approach} | ({} if initial is None else {"initial": initial})


def _strong_specs(setting: Setting, part: Part, seed: int) -> dict[str, str]:
    return {
        approach: strong_spec(part, setting.model, setting.width, setting.epochs, seed, objective).digest()[:16]
        for approach, objective in _OBJECTIVES.items()
    }


def _specs(strong: Mapping[str, str], approach: str, initial: str | None, seed: int) -> Row:
    """What trains the strong model and, where there is one, the layer."""
    if initial is None:
        return {"spec": strong["MODA"]}
    return {"spec": strong[approach], "adaptation_spec": _adaptation(initial, seed).digest()[:16]}


def _adaptation(initial: str, seed: int) -> AdaptationSpec:
    return AdaptationSpec.from_json({"initial": initial, "seed": seed})


def _identity(row: Row, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(row.get(name) for name in names)


def _strong(setting: Setting, objective: str, seed: int) -> _Strong:
    part = strong_part(setting.dataset, seed)
    spec = strong_spec(part, setting.model, setting.width, setting.epochs, seed, objective)
    strong = trained(setting.runs, spec, part.dataset, How(device=setting.device, execution=setting.execution))
    modular = modular_model(strong, part.dataset, device=setting.device)
    found = accuracy(_answers(strong.model, part.dataset.test, setting.device), part.dataset.test.labels)
    return _Strong(strong, part, modular, {"correct": found.correct, "n": found.samples})


def _weak(setting: Setting, cell: Cell, weak_epochs: int) -> _Weak:
    seed, kind, target = cell
    part = weak_part(setting.dataset, target)
    spec = weak_spec(part, kind, weak_epochs, seed)
    weak = trained(setting.runs, spec, part.dataset, How(device=setting.device, execution=setting.execution))
    train = subset(part.dataset.train, spec.fraction, spec.seed)
    answers = [_answers(weak.model, images, setting.device) for images in (train, part.dataset.test)]
    return _Weak(weak, target, train, part.dataset.test, *answers)


def _rows(device: str, weak: _Weak, strong: dict[str, _Strong], seed: int) -> Iterator[Row]:
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


def _trained_on(strong: _Strong, weak: _Weak) -> Row:
    return {
        "model": strong.run.digest,
        "weak_model": weak.run.digest,
        "trained_on": strong.run.facts["conditions"],
        "weak_trained_on": weak.run.facts["conditions"],
    }


def _adapted(
    approach: str, module: ModularModel, weak: _Weak, seed: int, device: str
) -> Iterator[tuple[Row, Float[Tensor, "test classes"]]]:
    """MODA's way: the adaptation layer, from each start."""
    train, test = (
        splice(own, _answers(module, images, device)[:, 0], weak.position)
        for own, images in ((weak.train_logits, weak.train), (weak.test_logits, weak.test))
    )
    for initial in INITIALS:
        layer = learn_adaptation(train, weak.train.labels, _adaptation(initial, seed))
        yield {"approach": approach, "initial": initial}, torch.nn.functional.linear(test, *layer)


def _ranged(
    module: ModularModel, weak: _Weak, strong: _Strong, device: str
) -> Iterator[tuple[Row, Float[Tensor, "test classes"] | None]]:
    """CNNSplitter's way, in both forms. A module whose logit is the same for all samples has no range, and so no scores."""
    answers = _answers(module, weak.test, device)[:, 0]
    place = strong.modular.labels.index(weak.target)
    ranges = (
        partial(target_range, images=strong.part.validation, position=place),
        partial(public_range, images=strong.part.dataset.train),
    )
    for approach, range_of in zip(_RANGED, ranges, strict=True):
        try:
            over = range_of(module, weak.target, device=device)
        except InvalidInput as error:
            yield {"approach": approach, "error": str(error)}, None
            continue
        scores = calibrated_scores(weak.test_logits, answers, weak.position, over)
        yield {"approach": approach, **over.to_json()}, scores


def _answers(model: Model, images: Images, device: str) -> Float[Tensor, "images classes"]:
    asked = network(model, device)
    return logits(asked, images, asked.inputs, device=device)


def _right(weak: _Weak, answers: Float[Tensor, "test classes"], when: str) -> Row:
    """The right answers on the target's test images and on the others'."""
    target = weak.test.labels == weak.position
    found = {"tc": target, "non_tc": ~target}
    counted = {part: accuracy(answers[chosen], weak.test.labels[chosen]) for part, chosen in found.items()}
    return {f"{part}_{when}": {"correct": one.correct, "n": one.samples} for part, one in counted.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every strong model in turn."""
    options = _parser().parse_args(arguments)
    check_positive(options, "weak_epochs")
    for setting in [setting_of(argparse.Namespace(**vars(options), model=strong)) for strong in options.strong]:
        measure(setting, options.weak_epochs)


def _parser() -> argparse.ArgumentParser:
    parser = program_parser("python -m experiments.rq2 replacement", __doc__)
    add = parser.add_argument
    add(
        "--dataset", required=True, metavar="[NAME=]PATH", help="an .npz file, named after itself by default; or digits"
    )
    add("--strong", nargs="+", default=["vgg16", "resnet18"], metavar="NAME", help="models (default: vgg16 resnet18)")
    add("--width", type=float, default=1.0, metavar="W", help="of the strong models (default: 1)")
    add("--strong-epochs", dest="epochs", type=int, default=200, metavar="N", help="of strong models (default: 200)")
    add(
        "--weak-epochs",
        type=int,
        default=200,
        metavar="N",
        help="of overfitted ones, 20 times an underfitted one's (200)",
    )
    add_surroundings(parser)
    add("--execution", default="", metavar="LIST", help="of training, as for experiments.rq1 (default: step by step)")
    parser.set_defaults(images_per_class=None)
    return parser
