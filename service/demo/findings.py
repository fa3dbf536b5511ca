"""What the demo found, as plain data: counts of images first, figures derived from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan, sqrt
from statistics import fmean, stdev
from typing import Any, Literal

__all__ = [
    "Adaptation",
    "Composed",
    "Estimate",
    "Findings",
    "ModelFindings",
    "Replaced",
    "Sample",
    "SeedFindings",
    "Tally",
    "estimate",
    "mean",
]

Adaptation = Literal["tenth", "all"]


@dataclass(frozen=True)
class Tally:
    """Images answered rightly, of so many."""

    correct: int
    images: int

    @property
    def percent(self) -> float:
        """100 x correct / images; nan for no images."""
        return 100 * self.correct / self.images if self.images else nan


@dataclass(frozen=True)
class Composed:
    """One composition, and the whole model restricted to its classes, on the same test images.

    Attributes:
        composed: what the composed model answered.
        whole: what the whole model answers when only these classes' probabilities are compared.
    """

    classes: tuple[str, ...]
    composed: Tally
    whole: Tally
    kept_parameters: int
    original_parameters: int
    kept_flops: int
    original_flops: int
    compose_ms: float

    @property
    def gap_images(self) -> int:
        """Images that the whole model answers rightly beyond what the composed one does; may be negative."""
        return self.whole.correct - self.composed.correct

    @property
    def gap_points(self) -> float:
        """The same in points of accuracy."""
        return self.whole.percent - self.composed.percent

    @property
    def size(self) -> float:
        """Kept parameters / original parameters."""
        return self.kept_parameters / self.original_parameters


@dataclass(frozen=True)
class ModelFindings:
    """A decomposed model: how well it does, what its modules hold, what its compositions do.

    Attributes:
        accuracy: of the whole model on all test images.
        sizes: of each class's module, as a share of the original.
        overlaps: of pairs of modules, as a share of the original, by ``(class, class)``.
        module_map: per layer, for each class which units its module holds.
    """

    reference: str
    architecture: str
    objective: str
    accuracy: Tally
    parameters: int
    sizes: Mapping[str, float]
    overlaps: Mapping[tuple[str, str], float]
    compositions: Sequence[Composed]
    module_map: Mapping[str, Sequence[Sequence[bool]]]

    @property
    def mean_size(self) -> float:
        """Mean module size, as a share of the original."""
        return fmean(self.sizes.values())

    @property
    def mean_overlap(self) -> float:
        """Mean overlap of two modules, as a share of the original."""
        return mean(self.overlaps.values())

    def of_size(self, classes: int) -> list[Composed]:
        """The compositions of so many classes."""
        return [one for one in self.compositions if len(one.classes) == classes]


@dataclass(frozen=True)
class Replaced:
    """One class of the weak model patched: test images of the class, and of all others, before and after.

    Attributes:
        adaptation: on the weak model's own tenth of the training images, or on all of them.
    """

    label: str
    adaptation: Adaptation
    target_before: Tally
    target_after: Tally
    others_before: Tally
    others_after: Tally

    @property
    def target_gain(self) -> float:
        """In points."""
        return self.target_after.percent - self.target_before.percent

    @property
    def others_gain(self) -> float:
        """In points."""
        return self.others_after.percent - self.others_before.percent


@dataclass(frozen=True)
class Sample:
    """One predicted test image: its place among the test images, and the answer."""

    index: int
    truth: str
    label: str
    probability: float
    model: str


@dataclass(frozen=True)
class SeedFindings:
    """Everything that one seed's models did.

    Attributes:
        weak_images: the training images that the weak model saw.
        seconds: how long each step took.
    """

    seed: int
    modular: ModelFindings
    standard: ModelFindings
    weak: Tally
    weak_images: int
    replaced: Sequence[Replaced]
    samples: Sequence[Sample]
    seconds: Mapping[str, float]

    def gains(self, adaptation: Adaptation, of: Callable[[Replaced], float]) -> float:
        """Mean over the classes of a gain, for one way to learn the adaptation."""
        return mean(of(one) for one in self.replaced if one.adaptation == adaptation)


@dataclass(frozen=True)
class Findings:
    """The whole demo, over its seeds.

    Attributes:
        about: versions, machine, data set, command.
    """

    labels: Sequence[str]
    train_images: int
    test_images: int
    seeds: Sequence[SeedFindings]
    about: Mapping[str, Any]
    total_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the derived figures beside the counts."""
        data = asdict(self)
        for seed, one in zip(data["seeds"], self.seeds, strict=True):
            for kind, model in (("modular", one.modular), ("standard", one.standard)):
                seed[kind].pop("module_map")
                seed[kind]["overlaps"] = {f"{a} {b}": share for (a, b), share in model.overlaps.items()}
        return data


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with the half width of its 95 % interval (Student's t); nan for a single seed."""

    mean: float
    half_width: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, one per seed, and how sure it is."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return Estimate(mean(values), nan, n)
    return Estimate(fmean(values), float(stdtrit(n - 1, 0.975)) * stdev(values) / sqrt(n), n)


def mean(values: Iterable[float]) -> float:
    """The mean; nan for none."""
    listed = list(values)
    return fmean(listed) if listed else nan
