"""What the records say of transactions, held against what PostgreSQL has in its tables."""
