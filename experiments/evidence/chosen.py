"""Which model the tables speak of, where a seed has several: trained anew, by another recipe or on other data.

One for each training (approach and seed, and the weights of the loss where they are what changes), the same for every
question of a setting: the one with the most measurements, and of several such the one recorded last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from experiments.records.result_file import Row
from moda_core.errors import UnreadableFile

__all__ = ["Training", "chosen", "latest", "of_chosen"]

Training = tuple[object, ...]
"""What one seed should have one model of."""

_TRAINED_AS = {"ST-composed": "ST", "MwT+generators": "MwT", "MwT+ft": "MwT"}
_MEASURED = (
    *("kind", "approach", "threshold", "epsilon", "execution"),
    *("strong", "weak", "weak_epochs", "target", "initial"),
)


def chosen(files: Mapping[str, Sequence[Row]]) -> dict[Training, str]:
    """The model of each training.

    Args:
        files: all rows of one setting's files, those of conditions included, by question.

    Raises:
        UnreadableFile: where two models have as many measurements, recorded at one time.
    """
    measured: dict[Training, dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    recorded: dict[str, str] = defaultdict(str)
    for question, rows in files.items():
        dates = {row["id"]: str(row.get("date", "")) for row in rows if row.get("kind") == "conditions"}
        for row in rows:
            model = _model(row)
            if model is not None and not isinstance(row.get("error"), str):
                measured[_training(row)][model].add((question, _measurement(row)))
                recorded[model] = max(recorded[model], dates.get(row.get("conditions"), ""))
    return {
        training: _best(training, {model: (len(done), recorded[model]) for model, done in models.items()})
        for training, models in measured.items()
    }


def of_chosen(rows: Iterable[Row], models: Mapping[Training, str]) -> list[Row]:
    """The rows of the chosen models, and those that name none."""
    return [row for row in rows if _model(row) in (None, models.get(_training(row)))]


def latest(rows: Sequence[Row]) -> list[Row]:
    """Of rows that measure one thing under one seed, the last."""
    last = {_key(row): place for place, row in enumerate(rows)}
    return [row for place, row in enumerate(rows) if last[_key(row)] == place]


def _best(training: Training, models: Mapping[str, tuple[int, str]]) -> str:
    most = max(models.values())
    best = [model for model, found in models.items() if found == most]
    if len(best) > 1:
        problem = f"two models under seed {training[1]}, both complete and recorded at one time: {' and '.join(best)}"
        raise UnreadableFile("results", str(training[0]), problem, "delete the rows of the one that is not meant")
    return best[0]


def _model(row: Row) -> str | None:
    """The digest of the row's model, of the strong one's spec for a replacement; None for older rows of those."""
    found = row.get("spec") if row.get("kind") == "replacement" else row.get("model")
    return None if found is None else str(found)


def _training(row: Row) -> Training:
    trained = _TRAINED_AS.get(str(row.get("approach")), row.get("approach"))
    if row.get("kind") == "replacement":
        # CNNSplitter takes the module of MODA's strong model.
        trained = trained if trained == "ST" else "MODA"
    weighting = [row.get(name) for name in ("alpha", "beta", "gamma")] if row.get("kind") == "weights" else []
    return trained, row.get("seed"), row.get("kind") == "replacement", *weighting


def _measurement(row: Row) -> tuple[object, ...]:
    """What was measured, on however many images."""
    return (*(row.get(name) for name in _MEASURED), tuple(row.get("classes", ())))


def _key(row: Row) -> tuple[object, ...]:
    weighting = (row.get(name) for name in ("alpha", "beta", "gamma"))
    return _measurement(row), row.get("seed"), row.get("images_per_class"), *weighting
