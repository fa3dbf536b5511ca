"""Serving, side by side with LitServe, BentoML and Ray Serve: `python -m benchmarks.serving`."""
