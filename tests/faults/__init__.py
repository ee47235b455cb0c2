"""Faults on purpose: what is injected and what is lost (DESIGN.md, section 7). Run as `python -m tests.faults`."""
