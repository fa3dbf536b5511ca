"""The Open Inference Protocol, version 2, over REST: what Triton's and KServe's clients speak, under ``/v2``."""
