"""The MODA paper's own numbers, as data: what ours are set beside.

Percentages unless a name says otherwise. Tables are keyed by our names of models and data sets.
`tests/experiments/paper` recomputes the averages that the paper's text states from these cells, so
that a slip of the pen shows.
"""
