"""A PgBouncer of the bench's own, as like to Curfew as it can be: one upstream connection a client, SCRAM on both legs.

It never reuses an upstream connection (server_lifetime = 0): Curfew gives each session a backend of its own, and the
bench compares proxies, not a proxy with a pool. The userlist holds PostgreSQL's own SCRAM secret, so that neither side
pays for deriving keys from a password. https://www.pgbouncer.org/config.html
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.ways import HOST
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import Account, Process, unprivileged
from tests.harness.waiting import eventually_sync

_CONFIGURATION = """\
[databases]
{database} = host={host} port={upstream_port} dbname={database}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
pool_mode = session
default_pool_size = 100
server_lifetime = 0
server_tls_sslmode = disable
client_tls_sslmode = allow
client_tls_cert_file = {folder}/pgbouncer.pem
client_tls_key_file = {folder}/pgbouncer.key
"""


def find() -> Path | None:
    """The program: $PGBOUNCER, else from PATH or where Debian puts it."""
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


@contextmanager
def running(
    program: Path, cluster: Cluster, authority: Authority, *, user: str, database: str
) -> Iterator[tuple[int, int]]:
    """PgBouncer in front of `cluster` for `user`; yields its port and its process id."""
    account = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="curfew-pgbouncer-"))
    try:
        port = free_port()
        authority.server(stem="pgbouncer", folder=folder)
        secret = cluster.psql("SELECT rolpassword FROM pg_authid WHERE rolname = :'name'", name=user)
        (folder / "userlist.txt").write_text(f'"{user}" "{secret}"\n')
        (folder / "pgbouncer.ini").write_text(
            _CONFIGURATION.format(folder=folder, host=HOST, port=port, upstream_port=cluster.port, database=database)
        )
        _give(account, folder)
        with Process([program, folder / "pgbouncer.ini"], account=account, folder=Path("/")) as process:
            eventually_sync(lambda: _accepts(port) or not process.running, what="PgBouncer's start")
            assert process.running, f"PgBouncer did not start:\n{process.output}"
            yield port, process.pid
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _give(account: Account | None, folder: Path) -> None:
    """PgBouncer refuses to run as root, so its files belong to the account that it runs as."""
    for path in (folder, *folder.iterdir()) if account else ():
        assert account is not None
        os.chown(path, account.uid, account.gid)
