"""The figures of result files."""
