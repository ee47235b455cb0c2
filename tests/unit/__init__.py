"""Unit tests: paths mirror the tree, and no test here opens a socket or starts a process."""
