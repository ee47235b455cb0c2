"""The differential oracle: one raw-wire script, said to PostgreSQL directly and through Curfew; both must answer alike.

`cases/` is the script, `talk` says it and notes the answers, `lines` makes them comparable, `differences` is the
reviewed list of what may differ and why, `runner` holds it all together. `python -m tests.oracle --help`.
"""
