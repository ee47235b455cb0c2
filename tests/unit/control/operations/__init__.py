"""Tests of `control.operations`."""
