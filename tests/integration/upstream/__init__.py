"""Dialling PostgreSQL and logging in: against a real server, and against servers that mean us harm."""
