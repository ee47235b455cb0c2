"""Unchanged clients through Curfew: they work as without it, and what they ran is what is on record."""
