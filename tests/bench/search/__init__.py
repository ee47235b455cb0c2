"""How fast statements are found again, and what the index costs: `python -m tests.bench search`."""
