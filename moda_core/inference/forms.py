"""Which form of a model answers fastest and still right: measured once per root model, on its device.

Errors are those of design section 3: the largest difference from the float64 reference, in units of the
largest standard deviation over inputs of any logit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moda_core.errors import Cancelled
from moda_core.inference.executables import FORMS, Executable, Form, can_lower, executable, reference
from moda_core.inference.mixing import MixedModel, stacked, subset
from moda_core.inference.packing import can_pack
from moda_core.inference.turns import LARGE_BATCH, FormTimes, fastest, timed
from moda_core.modularity.composition import compose
from moda_core.modularity.models import Model, ModularModel
from moda_core.specs import InputSpec
from moda_core.training.surroundings import never

__all__ = [
    "BF16_BOUND",
    "FLOAT32_RATIO",
    "MOST_CHANGED",
    "Choice",
    "Fastest",
    "FormReport",
    "Pixels",
    "candidates",
    "choose",
]

FLOAT32_RATIO = 10.0
"""A float32 form may err this many times as much as the plain one does."""
BF16_BOUND = 3e-2
"""bfloat16 rounds to 8 bits, by at most 2^-9 = 0.2 % at a time. Roundings add up as their root, and some 200 of
them (a few for each layer of a deep network) make 2.8 %. Where logits vary little beside their size the error is
larger, and bfloat16 is refused."""
MOST_CHANGED = 1e-3
"""The share of answers to real images that bfloat16 may change."""

_COMPOSED_CLASSES = 3
_SLOWLY_BUILT = frozenset({"compiled"})
"""Not tried for what is made of a root, unless it is best for the root: each composition would wait for the compiler."""
_CHECKED = 256
_SQUARES = 4

Pixels = tuple[UInt8[Tensor, "images _channels _size _size"], ...]
Build = Callable[[Model, Form, torch.device | str], Executable]
Mix = Callable[[ModularModel, Form, torch.device | str], Executable]


@dataclass(frozen=True, kw_only=True)
class FormReport:
    """What was found of one form; None for what was not measured.

    Attributes:
        held: whether it may be chosen; `reason` says why not.
        error: against the float64 reference; `bound` is the most that is allowed.
        changed: share of the given images whose answer differs from the plain form's.
        single_ms: for a batch of one.
        image_ms: per image of a batch of `LARGE_BATCH`.
    """

    form: Form
    held: bool = False
    reason: str | None = None
    error: float | None = None
    bound: float | None = None
    changed: float | None = None
    single_ms: float | None = None
    image_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fastest:
    """The fastest form of what is made of a root, among those that hold for both."""

    form: Form
    times: tuple[FormTimes, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The fastest form that holds, and how every candidate did.

    Attributes:
        images: how many real images were asked; 0 where errors are those on drawn ones.
        reports: of the root's forms.
        composed: what is composed of a modular model, by its first classes; None for another model.
        mixed: the model as it answers for many of its compositions at a time.
    """

    form: Form
    device: str
    images: int
    reports: tuple[FormReport, ...]
    composed: Fastest | None = None
    mixed: Fastest | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self) | {"reports": [asdict(report) for report in self.reports]}


def choose(
    model: Model,
    device: torch.device | str = "cpu",
    *,
    allow: Collection[Form] = (),
    images: Pixels | None = None,
    rounds: int = 7,
    build: Build = executable,
    mix: Mix = MixedModel,
    cancelled: Callable[[], bool] = never,
) -> Choice:
    """The form in which a root model should be run, and that of its compositions.

    Forms take turns, so that what else the machine does slows all of them, and the shortest time of each counts; of
    forms that are nearly as fast as each other either may be chosen.

    Args:
        model: a root. Of its compositions that of its first classes stands for all.
        device: on which it will answer.
        allow: forms beside those that are always tried: ``bf16``, ``compiled``, ``captured``.
        images: real ones, fitted to the model's inputs, one tensor per input; without them ``bf16`` never holds.
        rounds: of timing, at the least, in each of which every form takes its turn.
        build: makes the executables.
        mix: makes those that answer for many compositions at a time.
        cancelled: asked every few hundred images.

    Raises:
        Cancelled: when `cancelled` said so.
        RuntimeError: if no form, not even the plain one, ran to the end.
    """

    def going_on() -> None:
        if cancelled():
            raise Cancelled("the choice of a form")

    return _Trial(model, device, images, build, mix, going_on).choice(candidates(device, allow), rounds)


def candidates(device: torch.device | str, allow: Collection[Form] = ()) -> list[Form]:
    """The forms among which `choose` chooses on a device: plain and folded, and those that it has."""
    here = {"packed": can_pack(device), "onnxruntime": can_lower(device)}
    tried = {"plain", "folded", *allow, *(form for form, is_here in here.items() if is_here)}
    return [form for form in FORMS if form in tried]


class _Trial:
    """One model's forms, compared on the same images."""

    def __init__(
        self,
        model: Model,
        device: torch.device | str,
        images: Pixels | None,
        build: Build,
        mix: Mix,
        going_on: Callable[[], None],
    ) -> None:
        self.model, self.device, self.build, self.mix, self.going_on = model, device, build, mix, going_on
        self.plain = build(model, "plain", device)
        self.real = len(images[0]) if images else 0
        given = images if images and self.real else tuple(_drawn(rule) for rule in self.plain.inputs)
        self.pixels = tuple(pixels.to(device) for pixels in given)
        self.checked = tuple(pixels[:_CHECKED] for pixels in self.pixels)
        self.exact = _answers(reference(model, device), self.checked)
        self.plain_error = _error(_answers(self.plain, self.checked), self.exact)

    def choice(self, forms: Sequence[Form], rounds: int) -> Choice:
        form, reports = self._of_root(forms, rounds)  # the root's executables are gone before others are made
        held = [report.form for report in reports if report.held]
        composed, mixed = self._of_modular([one for one in held if one == form or one not in _SLOWLY_BUILT], rounds)
        return Choice(
            form=form,
            device=str(self.plain.device),
            images=self.real,
            reports=reports,
            composed=composed,
            mixed=mixed,
        )

    def _of_root(self, forms: Sequence[Form], rounds: int) -> tuple[Form, tuple[FormReport, ...]]:
        found = {form: self._tried(form) for form in forms}
        built = {form: asked for form, (_, asked) in found.items() if asked is not None}
        times, broken = timed(built, self.pixels, rounds, self.going_on)
        reports = tuple(_with_times(report, times, broken) for report, _ in found.values())
        held: list[Form] = [report.form for report in reports if report.held]
        if not held:
            raise RuntimeError("; ".join(f"{report.form}: {report.reason}" for report in reports))
        return fastest(times, held), reports

    def _of_modular(self, forms: Sequence[Form], rounds: int) -> tuple[Fastest | None, Fastest | None]:
        """What a modular model is for beside answering whole: compositions of it, and many of them at a time."""
        model = self.model
        if not isinstance(model, ModularModel):
            return None, None
        labels, pixels = model.labels[:_COMPOSED_CLASSES], tuple(given[:LARGE_BATCH] for given in self.pixels)
        composed, chosen = compose(model, labels), subset(model, labels)
        exact = _answers(reference(composed, self.device), pixels)
        plain_error = _error(_answers(self.build(composed, "plain", self.device), pixels), exact)

        def holds(form: Form, logits: Float[Tensor, "images classes"]) -> bool:
            return form == "plain" or _error(logits, exact) <= _bound(form, plain_error)

        def own(form: Form) -> Executable | None:
            asked = self.build(composed, form, self.device)
            return asked if holds(form, _answers(asked, pixels)) else None

        def shared(form: Form) -> Executable | None:
            asked = self.mix(model, form, self.device)
            return asked if holds(form, _answers(asked, among_many)[:, list(chosen.columns)]) else None

        among_many = (*pixels, stacked([chosen] * len(pixels[0]), self.device))
        fewer = rounds // 2  # all of this runs beside a service
        return self._fastest_of(forms, own, pixels, fewer), self._fastest_of(forms, shared, among_many, fewer)

    def _fastest_of(
        self, forms: Sequence[Form], make: Callable[[Form], Executable | None], given: tuple[Tensor, ...], rounds: int
    ) -> Fastest | None:
        asked: dict[Form, Executable] = {}
        for form in forms:
            self.going_on()
            with suppress(Exception):  # as for the root's forms
                if (one := make(form)) is not None:
                    asked[form] = one
        times, _ = timed(asked, given, rounds, self.going_on)
        return Fastest(form=fastest(times, list(times)), times=tuple(times.values())) if times else None

    def _tried(self, form: Form) -> tuple[FormReport, Executable | None]:
        self.going_on()
        try:
            asked = self.plain if form == "plain" else self.build(self.model, form, self.device)
            return self._judged(form, asked, _error(_answers(asked, self.checked), self.exact)), asked
        except Exception as error:  # noqa: BLE001 # a compiler fails in many ways, and the other forms are there
            return FormReport(form=form, reason=_unavailable(error)), None

    def _judged(self, form: Form, asked: Executable, error: float) -> FormReport:
        bound = _bound(form, self.plain_error)
        changed = self._changed(asked) if self.real else None
        reason = None
        if form != "plain" and not error <= bound:
            reason = "its error is above the bound"
        elif form == "bf16" and changed is None:
            reason = "no images were given on which to compare answers"
        elif form == "bf16" and changed is not None and changed > MOST_CHANGED:
            reason = "it changes too many answers"
        shown, most = (value if math.isfinite(value) else None for value in (error, bound))
        return FormReport(form=form, held=reason is None, reason=reason, error=shown, bound=most, changed=changed)

    def _changed(self, asked: Executable) -> float:
        if asked is self.plain:
            return 0.0
        found, expected = (_answers(one, self.pixels).argmax(1) for one in (asked, self.plain))
        return float((found != expected).double().mean())


def _drawn(rule: InputSpec) -> UInt8[Tensor, "images channels size size"]:
    """Images of coarse coloured squares under fine noise, always the same: logits vary on them as on real ones."""
    generator = torch.Generator().manual_seed(0)
    shape = LARGE_BATCH, rule.channels
    squares = torch.rand(*shape, _SQUARES, _SQUARES, generator=generator)
    coarse = torch.nn.functional.interpolate(squares, (rule.image_size, rule.image_size))
    fine = torch.rand(*shape, rule.image_size, rule.image_size, generator=generator)
    return (255 * (0.8 * coarse + 0.2 * fine)).round().to(torch.uint8)


def _answers(asked: Callable[..., Tensor], given: tuple[Tensor, ...]) -> Float[Tensor, "images classes"]:
    with torch.inference_mode():
        batches = zip(*(torch.split(one, LARGE_BATCH) for one in given), strict=True)
        return torch.cat([asked(*batch) for batch in batches]).cpu()


def _bound(form: Form, plain_error: float) -> float:
    return BF16_BOUND if form == "bf16" else FLOAT32_RATIO * max(plain_error, torch.finfo(torch.float32).eps)


def _error(found: Float[Tensor, "images classes"], exact: Float[Tensor, "images classes"]) -> float:
    """Not a number where logits do not vary: then nothing can be told, and no bound holds."""
    return float((found.double() - exact).abs().max() / exact.std(0).max())


def _unavailable(error: Exception) -> str:
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return f"not available: {first}"


def _with_times(report: FormReport, times: Mapping[Form, FormTimes], broken: Mapping[Form, Exception]) -> FormReport:
    if report.form in broken:
        return replace(report, held=False, reason=_unavailable(broken[report.form]))
    if report.form not in times:
        return report
    return replace(report, single_ms=times[report.form].single_ms, image_ms=times[report.form].image_ms)
