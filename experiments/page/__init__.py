"""The parts of ``docs/results.md``, which `experiments.document` puts together."""
