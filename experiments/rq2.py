"""RQ2: reuse and replacement of modules (figures 3a and 3b, table 2 of the paper).

python -m experiments.rq2 reuse --dataset cifar10=cifar10.npz --model resnet18 --width 0.25 --epochs 10
python -m experiments.rq2 replacement --help
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from experiments.setup.program import run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand over to the program that is named first."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["reuse"]:
        _reuse()(given[1:])
    elif given[:1] == ["replacement"]:
        _replacement()(given[1:])
    elif given[:1] in (["-h"], ["--help"]):
        print(__doc__)
    else:
        print("say which: python -m experiments.rq2 reuse | replacement", file=sys.stderr)
        raise SystemExit(2)


def _reuse() -> Callable[[Sequence[str]], None]:
    from experiments.reuse.command import main as reuse

    return reuse


def _replacement() -> Callable[[Sequence[str]], None]:
    from experiments.replacement.command import main as replacement

    return replacement


if __name__ == "__main__":
    run(main)
