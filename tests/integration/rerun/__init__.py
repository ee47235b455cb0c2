"""`curfew replay --against`: recorded by a real proxy, run again on a real clone."""
