"""Tests of the harness itself: what every other test stands on."""
