"""Networks by name. Ask `catalogue`; one file holds one network.

A ``forward`` here is marked ``no_type_check``: it is traced with symbolic values that have no
shape, so its annotations document and are not checked.
"""
