"""Fuzzing: hostile bytes for whatever reads a socket. See README.md."""
