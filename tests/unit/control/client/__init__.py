"""Tests of the `curfew` command's parts."""
