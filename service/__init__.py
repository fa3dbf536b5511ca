"""MODA over HTTP, on the command line and as a page."""

__all__ = ["__version__"]

__version__ = "0.1.0"
