"""What the tests stand on: a real PostgreSQL, a test CA, free ports, processes that end, and the one polling helper."""
