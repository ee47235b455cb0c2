"""What it takes to run Curfew: the demo, units for systemd, the keeper's SQL. Not part of the distribution."""
