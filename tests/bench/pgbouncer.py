"""A PgBouncer of the bench's own, as like to Curfew as it can be: one upstream connection a client, SCRAM on both legs.

It never reuses an upstream connection (server_lifetime = 0): Curfew gives each session a backend of its own, and the
bench compares proxies, not a proxy with a pool. It has PostgreSQL's own SCRAM secret (`tests.harness.pooler`), so that
neither side pays for deriving keys from a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import pooler
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster

_SETTINGS = {
    "pool_mode": "session",
    "default_pool_size": "100",
    "server_lifetime": "0",
    "server_tls_sslmode": "disable",
    "client_tls_sslmode": "allow",
}

find = pooler.find


@contextmanager
def running(program: Path, cluster: Cluster, authority: Authority, *, user: str) -> Iterator[tuple[int, int]]:
    """PgBouncer in front of `cluster` for `user`; yields its port and its process id."""
    with pooler.running(program, cluster, authority, users=(user,), **_SETTINGS) as one:
        yield one.port, one.pid
