"""The `curfew` command as a person runs it: a process of its own, real TLS, real libpq, a real terminal."""
