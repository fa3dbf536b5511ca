"""`python -m service.export_process FORMAT MODEL FILE`: one export, for `service.exports`.

MODEL is a safetensors file. Prints nothing; or, for a model that cannot be exported, the reason as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

import torch

from moda_core.errors import NotExportable
from moda_core.files import write_atomically
from moda_core.storage import artifacts
from moda_core.storage.export import encode_as
from moda_core.storage.formats import FileFormat

__all__ = ["main"]

_BEHIND_PREDICTIONS = 10


def main(file_format: FileFormat, model: Path, file: Path) -> int:
    """Export; 0 when the file is written."""
    try:
        write_atomically(file, encode_as(artifacts.decode(model, verify=False), file_format))
    except NotExportable as error:
        sys.stdout.write(json.dumps({"problem": error.problem, "remedy": error.remedy}))
        return 1
    return 0


if __name__ == "__main__":
    os.nice(_BEHIND_PREDICTIONS)
    torch.set_num_threads(1)
    sys.exit(main(cast("FileFormat", sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
