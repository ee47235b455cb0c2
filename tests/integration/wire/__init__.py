"""The wire part against a real PostgreSQL."""
