"""Tests of `control.store`."""
