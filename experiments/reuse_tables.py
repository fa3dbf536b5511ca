"""RQ2, reuse, RQ3 and τ in tables: what composed models get right, what they hold, and what modules share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments import paper
from experiments.evaluation import share
from experiments.evidence import Evidence
from experiments.markdown import NOTHING, count, number, percent, signed, table
from experiments.results import Row
from experiments.summaries import ReuseSummary, most_images, of_kind, reuse_summaries

__all__ = [
    "against_mwt",
    "best_of",
    "compactness_beside_the_paper",
    "compactness_of_one",
    "images_per_class",
    "modules_of_one",
    "reuse",
    "thresholds",
    "unmeasured_compactness",
    "unmeasured_reuse",
]

_REUSE_COLUMNS = (
    "below ST, points",
    "worst, points",
    "> 3 points",
    "weights, %",
    "FLOPs, %",
    "sub-tasks",
    "n",
    "seeds",
)


@dataclass(frozen=True)
class _Modules:
    """Modules of one approach at one τ, mean over seeds, as shares of the model."""

    size: float
    overlap: float
    size_undropped: float
    overlap_undropped: float


def reuse(file: Evidence, *, stated: bool = False) -> str:
    """How composed models do; `stated` adds the means that the paper states (for VGG16 on CIFAR-10)."""
    rows = _reuse_rows(file)
    theirs = paper.REUSE.means if stated else {}
    columns = ["approach", *(["paper, %"] if stated else []), "reuse accuracy, %", *(["difference"] if stated else [])]
    lines = []
    for one in reuse_summaries(rows):
        own = [row for row in rows if (row["approach"], row["threshold"]) == (one.approach, one.threshold)]
        named = theirs.get(one.approach)
        accuracy = [percent(one.accuracy)]
        if stated:
            difference = None if named is None else 100 * one.accuracy - named
            accuracy = [number(named), *accuracy, signed(difference)]
        lines.append([one.approach, *accuracy, *_reuse_cells(one, own, rows)])
    return table([*columns, *_REUSE_COLUMNS], lines)


def against_mwt(file: Evidence) -> str:
    """How much less MODA's composed models hold and cost than MwT's of the same sub-tasks, in words; none without both."""
    rows = _reuse_rows(file)
    ours, theirs = ({_subtask(row): row for row in rows if row["approach"] == approach} for approach in ("MODA", "MwT"))
    both = [(ours[task], theirs[task]) for task in ours if task in theirs]
    if not both:
        return ""
    weights, flops = (
        percent(fmean(1 - mine[key] / its[key] for mine, its in both)) for key in ("kept_parameters", "kept_flops")
    )
    stated = "; ".join(
        f"{model} {less} and {paper.FEWER_FLOPS_THAN_MWT[model]}"
        for model, less in paper.FEWER_WEIGHTS_THAN_MWT.items()
    )
    return (
        f"Composed by MODA, a sub-task's model holds {weights} % fewer weights than by MwT and costs {flops} % fewer FLOPs"
        f" (the paper, CIFAR-10: {stated}).\n\n"
    )


def modules_of_one(file: Evidence) -> str:
    """How large modules are and what two of them share, both ways of counting."""
    columns = ["approach", "module size, %", "as the paper counts, %", "overlap, %", "as the paper counts, %"]
    rows = of_kind(file.rows(), "modules")
    lines = []
    for approach, threshold in dict.fromkeys((row["approach"], row["threshold"]) for row in rows):
        found = _modules(file, approach, threshold)
        assert found is not None
        shares = (found.size, found.size_undropped, found.overlap, found.overlap_undropped)
        lines.append([approach, *map(percent, shares)])
    return table(columns, lines)


def compactness_beside_the_paper(files: Sequence[Evidence]) -> str:
    """Table 3: nine cases, empty where nothing was measured; sizes as the paper counts."""
    columns = [
        "model, data set, approach",
        "reuse, paper",
        "ours, %",
        "difference",
        "size, paper",
        "ours",
        "difference",
    ]
    columns += ["overlap, paper", "ours", "difference", "size as sliced", "sub-tasks", "seeds"]
    rows = []
    for case in paper.COMPOSITION:
        file = next((one for one in files if (one.model, one.dataset) == case), None)
        rows += [row for approach in ("MODA", "MODA-", "ST-composed") if (row := _compact_row(case, approach, file))]
    return table(columns, rows)


def compactness_of_one(file: Evidence) -> str:
    """RQ3 in one narrowed setting."""
    columns = ["approach", "reuse accuracy, %", "module size, %", "as the paper counts, %", "overlap, %"]
    columns += ["as the paper counts, %", "sub-tasks", "n", "seeds"]
    rows = _reuse_rows(file)
    lines = []
    for one in reuse_summaries(rows):
        own = [row for row in rows if row["approach"] == one.approach]
        found = _modules(file, one.approach, one.threshold)
        shares = (found.size, found.size_undropped, found.overlap, found.overlap_undropped) if found else (None,) * 4
        lines.append([one.approach, percent(one.accuracy), *map(percent, shares), *_numbers(own)])
    return table(columns, lines)


def thresholds(file: Evidence) -> str:
    """Figure 4 in numbers: reuse accuracy and module size by τ and approach."""
    summaries = reuse_summaries(_reuse_rows(file))
    approaches = list(dict.fromkeys(one.approach for one in summaries))
    found = {(one.approach, one.threshold): one for one in summaries}
    columns = ["τ"]
    for approach in approaches:
        columns += [f"{approach}: reuse, %", "module, %", "models, %"]
    columns += ["sub-tasks", "seeds"]
    lines = []
    for threshold in sorted({str(one.threshold) for one in summaries}, key=float):
        line = [threshold]
        for approach in approaches:
            line += _threshold_cells(file, approach, threshold, found.get((approach, threshold)))
        own = [row for row in _reuse_rows(file) if row["threshold"] == threshold]
        lines.append([*line, _tasks(own), _seeds(own)])
    return table(columns, lines)


def best_of(file: Evidence) -> str:
    """Which τ is the most accurate, which the smallest, and which the paper's rule would choose, for MODA."""
    points = [
        (float(one.threshold), one.accuracy, found.size)
        for one in reuse_summaries(_reuse_rows(file))
        if one.approach == "MODA" and one.threshold and (found := _modules(file, "MODA", one.threshold))
    ]
    if len(points) < 2:
        return ""
    accurate, small = max(points, key=lambda point: point[1])[0], min(points, key=lambda point: point[2])[0]
    chosen = max(sorted(points), key=lambda point: point[1] - point[2])[0]
    return (
        f"Ours: most accurate at τ = {accurate:g}, smallest at {small:g}, largest difference of the two at {chosen:g}."
        " The paper's: 0.8, 0.95, 0.9.\n"
    )


def images_per_class(file: Evidence) -> str:
    """How many test images of each class reuse was measured on, in words."""
    rows = _reuse_rows(file)
    return "all" if not rows or rows[0]["images_per_class"] is None else f"the first {rows[0]['images_per_class']}"


def unmeasured_reuse(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets without a row of reuse by MODA and MwT."""
    measured = {(file.model, file.dataset) for file in files if file.seeds("MODA") and file.seeds("MwT")}
    return [case for case in paper.COMPOSITION if case not in measured]


def unmeasured_compactness(files: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Models and data sets of table 3 that lack an approach."""
    measured = {(file.model, file.dataset) for file in files if file.seeds("MODA") and file.seeds("MODA-")}
    return [case for case in paper.COMPOSITION if case not in measured]


def _reuse_rows(file: Evidence) -> list[Row]:
    return most_images(of_kind(file.rows(), "reuse"))


def _reuse_cells(one: ReuseSummary, own: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    standard = {_subtask(row): share(row["accuracy"]) for row in rows if row["approach"] == "ST"}
    losses = [standard[_subtask(row)] - share(row["accuracy"]) for row in own if _subtask(row) in standard]
    composed = [row for row in own if "kept_flops" in row]
    itself = one.approach == "ST"
    return [
        NOTHING if itself or not losses else number(100 * fmean(losses)),
        NOTHING if itself else percent(one.worst),
        NOTHING if itself or one.lost is None else count(one.lost),
        percent(one.kept),
        percent(fmean(row["kept_flops"] / row["original_flops"] for row in composed) if composed else 1.0),
        *_numbers(own),
    ]


def _compact_row(case: tuple[str, str], approach: str, file: Evidence | None) -> list[str] | None:
    theirs = paper.COMPOSITION[case].get(approach)
    own = [] if file is None else [row for row in _reuse_rows(file) if row["approach"] == approach]
    found = None if file is None or not own else _modules(file, approach, own[0]["threshold"])
    if theirs is None and not own:
        return None
    accuracy = 100 * fmean(share(row["accuracy"]) for row in own) if own else None
    size, overlap = (found.size_undropped, found.overlap_undropped) if found else (None, None)
    return [
        f"{case[0]}, {case[1]}, {approach}",
        *_compared(theirs.reuse_accuracy if theirs else None, accuracy, 2),
        *_compared(theirs.module_size if theirs else None, size, 3),
        *_compared(theirs.module_overlap if theirs else None, overlap, 3),
        number(found.size if found else None, 3),
        _tasks(own),
        _seeds(own),
    ]


def _compared(theirs: float | None, ours: float | None, digits: int) -> list[str]:
    difference = None if theirs is None or ours is None else ours - theirs
    return [number(theirs, digits), number(ours, digits), signed(difference, digits)]


def _threshold_cells(file: Evidence, approach: str, threshold: str, one: ReuseSummary | None) -> list[str]:
    found = _modules(file, approach, threshold)
    if one is None or found is None:
        return [NOTHING] * 3
    return [percent(one.accuracy), percent(found.size), percent(one.kept)]


def _modules(file: Evidence, approach: str, threshold: str | None) -> _Modules | None:
    rows = of_kind(file.rows(approach=approach, threshold=threshold), "modules")
    names = ("size", "overlap", "size_undropped", "overlap_undropped")
    return _Modules(*(fmean(row[name] for row in rows) for name in names)) if rows else None


def _numbers(rows: Sequence[Row]) -> list[str]:
    """Sub-tasks, test images of the smallest and the largest of them, seeds."""
    images = sorted({row["accuracy"]["n"] for row in rows})
    return [_tasks(rows), f"{count(images[0])} to {count(images[-1])}" if images else NOTHING, _seeds(rows)]


def _tasks(rows: Sequence[Row]) -> str:
    by_seed: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for row in rows:
        by_seed[row["seed"]].add(tuple(row["classes"]))
    return " or ".join(count(n) for n in sorted({len(tasks) for tasks in by_seed.values()}))


def _seeds(rows: Sequence[Row]) -> str:
    return str(len({row["seed"] for row in rows})) if rows else NOTHING


def _subtask(row: Row) -> tuple[object, ...]:
    return row["seed"], tuple(row["classes"])
