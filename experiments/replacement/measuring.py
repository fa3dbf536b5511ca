"""Measuring the cells of one strong model that its result file lacks."""

from __future__ import annotations

from experiments.records.result_file import ResultFile
from experiments.replacement.cells import OBJECTIVES, QUESTION, lacking
from experiments.replacement.participants import strong_model, weak_model
from experiments.replacement.ways import replaced
from experiments.setup.progress import Progress
from experiments.setup.setting import Setting

__all__ = ["measure"]


def measure(setting: Setting, weak_epochs: int) -> None:
    """Measure the rows of one strong model that its result file lacks; those of a cell are written together."""
    file = ResultFile(setting.result_path(QUESTION))
    file.begin(setting.invocation())
    cells = lacking(file, setting, weak_epochs)
    with Progress(f"replacement {setting.name} {setting.model}", len(cells)) as progress:
        for seed in dict.fromkeys(seed for seed, _, _ in cells):
            strong = {approach: strong_model(setting, objective, seed) for approach, objective in OBJECTIVES.items()}
            for cell, heads in cells.items():
                if cell[0] == seed:
                    weak = weak_model(setting, cell, weak_epochs)
                    found = replaced(setting.device, weak, strong, seed)
                    rows = {(row["approach"], row.get("initial")): row for row in found}
                    file.extend(head | rows[head["approach"], head.get("initial")] for head in heads)
                    progress.advance()
