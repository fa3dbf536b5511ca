"""The commands of `moda`, by what they are about. Importing them loads typer and nothing heavier."""

__all__: list[str] = []
