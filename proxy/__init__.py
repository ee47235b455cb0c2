"""The data plane: the lock. It admits, records, relays and ends sessions; it never imports `control`."""
