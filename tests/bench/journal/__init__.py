"""What recording costs, and whether control keeps up with it: `python -m tests.bench journal`.

`throughput`: transactions per second in both durabilities, beside a proxy that records nothing. `ingest`: how many
records per second control takes in, from a client that does nothing else and from a proxy's shipper, beside what a
proxy at full load makes; and what a record takes in its books.
"""
