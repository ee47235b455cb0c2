"""Curfew's speed, always beside a direct connection and PgBouncer in the same run: `python -m tests.bench --help`."""
