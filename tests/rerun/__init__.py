"""Re-execution shown: workloads through a real proxy, run again on a clone, and both databases dumped and compared."""
