"""Tests of unit/proxy/contract."""
