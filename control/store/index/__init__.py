"""The index for searches: a SQLite file of its own beside the books, which nobody but its indexer writes to.

It is no evidence: the records are, and all that is in it is made from them. Being apart, it never holds up whoever
writes the books, needs no copy, and may be thrown away at any time. Its parts: the file (`file`), sets of statements
(`places`), what goes in (`writing`), how it is looked through (`reading`), and the log as both read it (`log`).
"""
