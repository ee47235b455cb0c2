"""Integration tests by topic: they run against a real PostgreSQL, real sockets and real processes."""
