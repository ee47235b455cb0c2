"""Campaign `journal`: what PostgreSQL executed is on record, once, whatever the log's disk, process or control do."""
