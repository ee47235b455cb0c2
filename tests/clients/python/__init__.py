"""The Python clients' programs: psycopg and asyncpg, run as the other languages' programs are."""
