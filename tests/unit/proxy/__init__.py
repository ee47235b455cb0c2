"""Tests of unit/proxy."""
