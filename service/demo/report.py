"""The demo's report: sections of plain tables, made once, shown by rich and written as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median
from typing import TYPE_CHECKING

from service.demo.findings import Composed, Estimate, Findings, ModelFindings, SeedFindings, Tally, estimate, mean
from service.demo.goals import measured_goals

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Section", "as_markdown", "for_terminal", "sections"]


@dataclass(frozen=True)
class Section:
    """One table with its words. Columns whose name begins with ``>`` are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def sections(findings: Findings) -> list[Section]:
    """The whole report, in the order in which it is read."""
    first = findings.seeds[0]
    several = [_over_seeds(findings)] if len(findings.seeds) > 1 else []
    return [
        _models(findings, first),
        _compositions(first),
        _modules(first),
        _replacements(findings, first),
        _predictions(first),
        *several,
        _goals(findings),
        _times(findings, first),
    ]


def as_markdown(findings: Findings) -> str:
    """The report as a document; the picture is taken to lie beside it as ``report.png``."""
    parts = ["# MODA on handwritten digits", _lead(findings), "![Modules, overlaps, sizes and samples](report.png)"]
    for section in sections(findings):
        parts.append(f"## {section.title}")
        parts += [section.note] if section.note else []
        parts.append(_markdown_table(section))
    return "\n\n".join(parts) + "\n"


def for_terminal(findings: Findings) -> Group:
    """The report for people at a terminal."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from service.commands.terminal import table

    shown: list[object] = [Text("MODA on handwritten digits", style="bold"), Text(_lead(findings), style="dim")]
    for section in sections(findings):
        shown.append(Padding(Text(section.title, style="bold cyan"), (1, 0, 0, 0)))
        shown.append(table(*section.columns, rows=section.rows))
        shown += [Text(section.note, style="dim")] if section.note else []
    return Group(*shown)  # type: ignore[arg-type]  # all of them renderable


# The sections


def _lead(findings: Findings) -> str:
    about = findings.about
    return (
        f"{findings.train_images:,} training and {findings.test_images} test images of {len(findings.labels)} classes, "
        f"{len(findings.seeds)} seed{'s' if len(findings.seeds) > 1 else ''}, {findings.total_s:.0f} s in all on "
        f"{about['machine']}; MODA {about['moda']}, torch {about['torch']}."
    )


def _models(findings: Findings, one: SeedFindings) -> Section:
    rows = [_model_row(name, model) for name, model in (("modular", one.modular), ("standard", one.standard))]
    share = one.weak_images / findings.train_images
    rows.append(["weak", f"LeNet5 on {one.weak_images} images, {100 * share:.0f} %", _tally(one.weak), "-", "-", "-"])
    columns = ("Model", "Network", ">Test accuracy", ">Parameters", ">Mean module", ">Mean overlap")
    note = f"Seed {one.seed}. Answers of POST /predict on every test image; sizes and overlaps as shares of the parameters."
    return Section("Models", columns, rows, note)


def _model_row(name: str, model: ModelFindings) -> list[str]:
    overlap = f"{100 * model.mean_overlap:.1f} % (n = {len(model.overlaps)})"
    size = f"{100 * model.mean_size:.1f} % (n = {len(model.sizes)})"
    return [name, model.architecture, _tally(model.accuracy), f"{model.parameters:,}", size, overlap]


def _compositions(one: SeedFindings) -> Section:
    rows = [
        _composition_row(kind, f"{len(model.of_size(size))} {_of_size(size)}", model.of_size(size))
        for size in sorted({len(each.classes) for each in one.modular.compositions})
        for kind, model in (("modular", one.modular), ("standard", one.standard))
    ]
    columns = (
        "From",
        "Subsets",
        ">Images",
        ">Composed",
        ">Whole",
        ">Mean gap",
        ">Worst gap",
        ">Size",
        ">FLOPs",
        ">Compose",
    )
    note = (
        "Composed: mean accuracy of the composed models on the test images of their classes. Whole: the whole model's, "
        "restricted to these classes. Gaps in points: a positive one is accuracy lost by composing. Composed by POST /compose, "
        "answered by POST /predict. Size and FLOPs: means, as shares of the whole model. Compose: median."
    )
    return Section("All compositions of two and three classes", columns, rows, note)


def _composition_row(kind: str, words: str, composed: Sequence[Composed]) -> list[str]:
    return [
        kind,
        words,
        f"{sum(one.composed.images for one in composed):,}",
        f"{_mean(composed, lambda one: one.composed.percent):.2f} %",
        f"{_mean(composed, lambda one: one.whole.percent):.2f} %",
        f"{_mean(composed, lambda one: one.gap_points):+.2f}",
        _worst_gap(composed),
        f"{100 * _mean(composed, lambda one: one.size):.1f} %",
        f"{100 * _mean(composed, lambda one: one.kept_flops / one.original_flops):.1f} %",
        f"{median(one.compose_ms for one in composed):.1f} ms",
    ]


def _of_size(classes: int) -> str:
    return {2: "pairs", 3: "triples"}.get(classes, f"of {classes} classes")


def _worst_gap(composed: Sequence[Composed]) -> str:
    """The largest loss, in points and images, and which classes suffer it."""
    worst = max(composed, key=lambda one: one.gap_points)
    if worst.gap_images <= 0:
        return f"{worst.gap_points:+.2f} (no image)"
    return f"{worst.gap_points:+.2f} ({worst.gap_images} of {worst.composed.images}: {' '.join(worst.classes)})"


def _modules(one: SeedFindings) -> Section:
    rows = [
        [
            name,
            *(f"{100 * size:.1f}" for size in model.sizes.values()),
            f"{100 * model.mean_size:.1f}",
            _largest_overlap(model),
        ]
        for name, model in (("modular", one.modular), ("standard", one.standard))
    ]
    columns = ("From", *(f">{label}" for label in one.modular.sizes), ">Mean", ">Largest overlap")
    return Section("Module of each class, % of the whole model's parameters", columns, rows)


def _largest_overlap(model: ModelFindings) -> str:
    pair, share = max(model.overlaps.items(), key=lambda item: item[1])
    return f"{100 * share:.1f} ({' '.join(pair)})"


def _replacements(findings: Findings, one: SeedFindings) -> Section:
    by_label = {label: [each for each in one.replaced if each.label == label] for label in findings.labels}
    rows = []
    for label, both in by_label.items():
        by_adaptation = {each.adaptation: each for each in both}
        tenth, everything = by_adaptation["tenth"], by_adaptation["all"]
        after = [
            figure
            for each in (tenth, everything)
            for figure in (f"{each.target_after.correct}", f"{each.target_gain:+.1f}", f"{each.others_gain:+.1f}")
        ]
        rows.append([label, f"{tenth.target_before.images}", f"{tenth.target_before.correct}", *after])
    gains = [
        figure
        for adaptation in ("tenth", "all")
        for figure in (
            "",
            f"{one.gains(adaptation, lambda each: each.target_gain):+.2f}",
            f"{one.gains(adaptation, lambda each: each.others_gain):+.2f}",
        )
    ]
    rows.append(["mean", "", "", *gains])
    columns = ("Class", ">n", ">Right before", ">Tenth: right", ">Gain", ">Others", ">All: right", ">Gain", ">Others")
    note = (
        "The weak model with one class patched by the modular model's module. Tenth: the adaptation learned on the weak "
        f"model's own {one.weak_images} training images; all: on all {findings.train_images:,}. Right: test images of the "
        f"class; gains in points of accuracy, on the class and on the {findings.test_images} - n images of the others."
    )
    return Section("Every class of the weak model replaced in turn", columns, rows, note)


def _predictions(one: SeedFindings) -> Section:
    rows = [
        [f"{each.index}", each.truth, each.label, f"{100 * each.probability:.1f} %", each.model] for each in one.samples
    ]
    columns = (">Test image", "Is", "Answer", ">Probability", "Model")
    return Section("Some predictions over HTTP, one image a request", columns, rows)


def _over_seeds(findings: Findings) -> Section:
    figures: list[tuple[str, Callable[[SeedFindings], float], str]] = [
        ("Test accuracy, modular, %", lambda one: one.modular.accuracy.percent, ".2f"),
        ("Test accuracy, standard, %", lambda one: one.standard.accuracy.percent, ".2f"),
        ("Test accuracy, weak, %", lambda one: one.weak.percent, ".2f"),
        ("Mean module, modular, %", lambda one: 100 * one.modular.mean_size, ".1f"),
        ("Mean module, standard, %", lambda one: 100 * one.standard.mean_size, ".1f"),
        ("Mean overlap, modular, %", lambda one: 100 * one.modular.mean_overlap, ".1f"),
        ("Mean overlap, standard, %", lambda one: 100 * one.standard.mean_overlap, ".1f"),
        ("Mean gap, modular, points", lambda one: _mean(one.modular.compositions, lambda c: c.gap_points), "+.2f"),
        ("Mean gap, standard, points", lambda one: _mean(one.standard.compositions, lambda c: c.gap_points), "+.2f"),
        ("Target gain, tenth, points", lambda one: one.gains("tenth", lambda each: each.target_gain), "+.2f"),
        ("Others' gain, tenth, points", lambda one: one.gains("tenth", lambda each: each.others_gain), "+.2f"),
        ("Target gain, all, points", lambda one: one.gains("all", lambda each: each.target_gain), "+.2f"),
        ("Others' gain, all, points", lambda one: one.gains("all", lambda each: each.others_gain), "+.2f"),
    ]
    rows = []
    for name, of, form in figures:
        values = [of(one) for one in findings.seeds]
        rows.append([name, _estimate(estimate(values), form), *(f"{value:{form}}" for value in values)])
    columns = ("Figure", ">Mean ± 95 %", *(f">Seed {one.seed}" for one in findings.seeds))
    note = (
        f"n = {len(findings.seeds)} seeds: of initial weights, batches, augmentation and the weak model's tenth; the "
        "split into training and test images is the same. Intervals by Student's t."
    )
    return Section("Over the seeds", columns, rows, note)


def _goals(findings: Findings) -> Section:
    rows = [
        [goal.what, goal.wanted, goal.measured, "reached" if goal.reached else "not reached"]
        for goal in measured_goals(findings)
    ]
    return Section("Goals", ("Goal", "Wanted", ">Measured", ""), rows)


def _times(findings: Findings, one: SeedFindings) -> Section:
    rows = [[step, f"{seconds:.1f} s"] for step, seconds in one.seconds.items()]
    rows.append(["everything, start and stop included", f"{findings.total_s:.1f} s"])
    title = "Where the time went" + (f", seed {one.seed}" if len(findings.seeds) > 1 else "")
    return Section(title, ("Step", ">Took"), rows)


# Figures as words


def _tally(tally: Tally) -> str:
    return f"{tally.percent:.2f} % ({tally.correct} of {tally.images})"


def _estimate(value: Estimate, form: str) -> str:
    interval = "" if isnan(value.half_width) else f" ± {value.half_width:{form.lstrip('+')}}"
    return f"{value.mean:{form}}{interval}"


def _mean(composed: Sequence[Composed], of: Callable[[Composed], float]) -> float:
    return mean(of(one) for one in composed)


def _markdown_table(section: Section) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = ["---:" if column.startswith(">") else "---" for column in section.columns]
    head = [column.removeprefix(">") for column in section.columns]
    return "\n".join([line(head), line(rule), *(line(row) for row in section.rows)])
