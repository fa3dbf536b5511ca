"""The paper's questions as programs over `moda_core`: run one by its name, ``python -m experiments.rq1 --help``.

The programs lie here, their results in the folder ``results``. What they are made of, each of which
imports only those before it:

- `paper`: the paper's own numbers, which ours are set beside
- `records`: result files, and the conditions that their rows were measured under
- `evidence`: result files read again: which model counts, what rows say together
- `figures`: what is drawn of them
- `setup`: what a program is asked, how it begins, tells how far it is and ends
- `models`: trained models on the disk, found again, decomposed, evaluated
- `reuse`: composed models of sub-tasks (RQ2 to RQ4)
- `replacement`: modules in weak models (RQ2)
- `page`: the parts of ``docs/results.md``
- `agenda`: what is worth measuring next
"""
