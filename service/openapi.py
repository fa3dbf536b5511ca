"""The committed description of the interface: `python -m service.openapi openapi/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from service.app import create_app
from service.settings import Settings

__all__ = ["document"]


def document() -> str:
    """The OpenAPI document of the application, as the file's text; nothing is opened for it."""
    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
