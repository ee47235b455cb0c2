"""Accounts: roles made for one grant, on real servers of the oldest, the usual and the newest PostgreSQL."""
