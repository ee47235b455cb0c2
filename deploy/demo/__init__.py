"""The demo: all of Curfew on one machine for a while, and the story that shows each of its promises.

It stands on the tests' own harness (a PostgreSQL, an authority, processes that end), and is run from a checkout only.
Nothing of Curfew imports it.
"""
