"""The test suites of others, run straight at PostgreSQL and through Curfew: both must pass the same tests.

README.md says how to run them and what came of it; `python -m tests.suites` is the command.
"""
