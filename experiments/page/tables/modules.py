"""Modules in tables: how large they are and what two of them share, in all and layer by layer (section 5.2)."""

from __future__ import annotations

from statistics import fmean

from experiments.evidence.files import Evidence
from experiments.evidence.summaries import grouped, layer_overlaps, module_summaries, of_kind
from experiments.page.markdown import NOTHING, number, percent, table
from experiments.paper import section_5_2
from experiments.records.result_file import Row

__all__ = ["mwt_measures", "of_layers", "of_one"]

_END = 3
"""Convolutional layers at either end that the paper speaks of."""


def of_one(file: Evidence) -> str:
    """Sizes and overlaps, both ways of counting."""
    columns = ["approach", "module size, %", "as the paper counts, %", "overlap, %", "as the paper counts, %"]
    lines = [
        [approach, *map(percent, (found.size, found.size_undropped, found.overlap, found.overlap_undropped))]
        for (approach, _), found in module_summaries(file.rows()).items()
    ]
    return table(columns, lines) + "\n" if lines else ""


def of_layers(file: Evidence) -> str:
    """The first and the last convolutional layers' overlaps, beside what the paper says of VGG16's on CIFAR-10."""
    found = {approach: _convolutions(shares) for approach, shares in layer_overlaps(file.rows()).items()}
    found = {approach: shares for approach, shares in found.items() if len(shares) >= 2 * _END}
    if not found:
        return ""
    names = list(next(iter(found.values())))
    shown = names[:_END] + names[-_END:]
    columns = ["overlap, % of the layer, as the paper counts", *shown]
    rows = [[approach, *(percent(shares.get(name)) for name in shown)] for approach, shares in found.items()]
    stated = section_5_2.OVERLAP_PER_LAYER
    return (
        f"{table(columns, rows)}\nThe first and the last three convolutional layers. The paper's of VGG16 on CIFAR-10: more"
        f" than {stated.first_three_at_least:g} % in the first three, less than {stated.last_three_at_most:g} % in the last"
        " three.\n\n"
    )


def mwt_measures(file: Evidence) -> str:
    """MwT's own measures of its modules, those that were recorded; mean over classes and seeds."""
    groups = grouped(of_kind(file.rows(), "modules"), lambda row: str(row["approach"]))
    rows = {approach: [row for row in found if "kernel_retention" in row] for approach, found in groups.items()}
    lines = [
        [approach, *(_mean(found, name) for name in ("kernel_retention", "cohesion", "coupling"))]
        for approach, found in rows.items()
        if found
    ]
    if not lines:
        return ""
    said = (
        "MwT's own measures: the share of kernels that a module keeps, how alike the masks of one class's images are"
        " (cohesion), how alike two modules' kernels are (coupling); Jaccard similarities."
    )
    return f"{said}\n\n{table(['approach', 'kernel retention, %', 'cohesion', 'coupling'], lines)}\n"


def _convolutions(shares: dict[str, float]) -> dict[str, float]:
    """Without the fully connected layers at the end."""
    return {name: share for name, share in shares.items() if not name.startswith(("classifier", "fc", "linear"))}


def _mean(rows: list[Row], name: str) -> str:
    found = [row[name] for row in rows if row.get(name) is not None]
    means = [fmean(one.values()) if isinstance(one, dict) else float(one) for one in found]
    if not means:
        return NOTHING
    return percent(fmean(means)) if name == "kernel_retention" else number(fmean(means), 3)
