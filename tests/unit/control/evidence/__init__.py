"""Tests of `control.evidence`."""
