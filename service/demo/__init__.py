"""`moda demo`: the whole product on real handwritten digits, through its own front door, with a report."""

__all__: list[str] = []
