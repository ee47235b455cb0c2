"""How soon access is over once that is decided: `python -m tests.bench stop`.

`sessions`: real ones whose grants end in the same instant. `crowd`: many more, on a fake upstream. `revocations`: by a
real control, on a quiet proxy and on a busy one. Each gives `Finding`s: an aim, and what was measured.
"""
