"""The `curfew` command for people: a client of the HTTP API (`/v1`) and nothing more.

It holds no rule of its own: what is allowed, control decides. What it owns is how things are said, how a token becomes
something that PostgreSQL's clients can read, and how a record is shown without harming the terminal it is shown on.
"""
