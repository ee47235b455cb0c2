"""The index's file, against what goes into it."""
