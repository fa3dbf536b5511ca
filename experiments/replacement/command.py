"""RQ2, replacement: a strong model's module answers for one class of a weak model (table 2 of the MODA paper).

    python -m experiments.rq2 replacement --dataset cifar10=cifar10.npz --strong vgg16 resnet18 --seeds 5

Every target class in turn, for an overfitted and an underfitted weak model; each cell compares

- ``MODA``: the module of a modularly trained model, then the adaptation layer, learnt on the images
  that the weak model was trained on, from both starts (``initial``);
- ``ST-composed``: the same with the module of a strong model trained the standard way;
- ``CNNSplitter`` and ``CNNSplitter-public``: MODA's module, its logit scaled by a range instead: over
  the held-out images of the target class, or over all the strong model's training images.

A row holds the right answers before and after, on all test images of the target class (``tc``) and of
the others together (``non_tc``), the module's size, what trained the models (``spec`` of the strong one, ``weak_spec``,
``adaptation_spec``: digests; ``trained_on``, ``weak_trained_on``: conditions), or instead of ``after`` the ``error`` that
there is none. Rows that a result file has are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments.replacement.measuring import measure
from experiments.setup.options import add_surroundings, check_positive, setting_of
from experiments.setup.program import program_parser

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every strong model in turn."""
    options = _parser().parse_args(arguments)
    check_positive(options, "weak_epochs")
    for setting in [setting_of(argparse.Namespace(**vars(options), model=strong)) for strong in options.strong]:
        measure(setting, options.weak_epochs)


def _parser() -> argparse.ArgumentParser:
    parser = program_parser("python -m experiments.rq2 replacement", __doc__)
    add = parser.add_argument
    add(
        "--dataset", required=True, metavar="[NAME=]PATH", help="an .npz file, named after itself by default; or digits"
    )
    add("--strong", nargs="+", default=["vgg16", "resnet18"], metavar="NAME", help="models (default: vgg16 resnet18)")
    add("--width", type=float, default=1.0, metavar="W", help="of the strong models (default: 1)")
    add("--strong-epochs", dest="epochs", type=int, default=200, metavar="N", help="of strong models (default: 200)")
    add(
        "--weak-epochs",
        type=int,
        default=200,
        metavar="N",
        help="of overfitted ones, 20 times an underfitted one's (200)",
    )
    add_surroundings(parser)
    add("--execution", default="", metavar="LIST", help="of training, as for experiments.rq1 (default: step by step)")
    parser.set_defaults(images_per_class=None)
    return parser
