"""What an attacker or a broken client sends, against the real proxy process in front of a real PostgreSQL."""
