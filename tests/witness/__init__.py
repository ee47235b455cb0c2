"""Completeness against an independent witness: whatever a client does, PostgreSQL's own log and the journal agree.

`python -m tests.witness` drives the clients on PostgreSQL 14, the installed one and 18, and prints a table; a
short part of it is in the suite. What agreeing means stands in `tests.harness.witness`.
"""
