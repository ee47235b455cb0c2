"""What an auditor gets of hostile sessions: through the real proxy and PostgreSQL, from real control."""
