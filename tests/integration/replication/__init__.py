"""Replication connections: who may make one, and what becomes of them, told in bytes."""
