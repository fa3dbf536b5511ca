"""A strong model's module answers for one class of a weak model (RQ2)."""
