"""Tests of `control.api`."""
