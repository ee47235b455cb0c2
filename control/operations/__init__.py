"""What people and proxies can have done: an operation is a function, and what it changes is one transaction.

Operations put the rules (`domain`), the books (`store`) and the keys together. They know nothing of HTTP: the routers
and the command call them alike. What a person may do wrong is a `Failure`, never an exception.
"""
