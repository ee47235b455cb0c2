"""What many or greedy clients cost the proxy and each other: `python -m tests.bench pressure`.

`memory`: results and COPYs that somebody does not take. `fairness`: a small query beside a big transfer. `crowds`:
connections that never authenticate. Each gives `Finding`s: an aim, and what was measured.
"""
