"""``python -m service``: the service on its port, set up by ``MODA_*`` or options (see `service.settings`)."""

from __future__ import annotations

import sys

from pydantic import ValidationError
from pydantic_settings import CliApp

from moda_core.errors import ModaError
from service.commands.terminal import fail
from service.serving import serve
from service.settings import Settings

__all__ = ["main"]


def main() -> int:
    """Serve until told to stop; exit statuses as `moda` has them."""
    try:
        serve(CliApp.run(Settings))
    except ModaError as error:
        return fail(error)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = ".".join(map(str, fault["loc"]))
            sys.stderr.write(
                f"MODA_{name.upper()}, --{name.replace('_', '-')}: {fault['msg']} (got {fault['input']!r})\n"
            )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
