"""Evidence: taking records in, checking their chains, and telling what happened in a session."""
