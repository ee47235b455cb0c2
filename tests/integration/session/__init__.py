"""Sessions through the real proxy process to a real PostgreSQL: how they begin, go on and end."""
