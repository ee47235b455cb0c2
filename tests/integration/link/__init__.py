"""The proxy's link to control, over real TLS."""
