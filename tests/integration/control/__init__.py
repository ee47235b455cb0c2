"""The control service as a process, over TLS."""
