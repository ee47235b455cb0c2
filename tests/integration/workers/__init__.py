"""A proxy of several workers under a supervisor, with real processes."""
