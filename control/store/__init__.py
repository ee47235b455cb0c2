"""The books: the only part of control that knows SQL.

`engine.Store` opens the database and hands out transactions; the other modules are the queries, by noun, each a
function of a transaction. They know rows and the domain's data, never HTTP, never a rule.
"""
