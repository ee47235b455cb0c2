"""The verified stop against a real PostgreSQL."""
