"""SANS-IO: bytes in, events out. Standard library and asyncpg.pgproto only; no asyncio, no logging, no files."""
