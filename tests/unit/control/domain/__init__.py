"""Tests of `control.domain`."""
