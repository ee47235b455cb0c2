"""A PgBouncer of the tests' own in front of a Cluster, over TLS, for the logins of `tests.harness.roles`.

The userlist holds PostgreSQL's own SCRAM secrets, so that nobody needs a password.
https://www.pgbouncer.org/config.html
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, unprivileged
from tests.harness.roles import APP, KEEPER, READONLY
from tests.harness.waiting import eventually_sync

HOST = "127.0.0.1"
USERS = (APP.user, KEEPER.user, READONLY.user)


def find() -> Path | None:
    """The program: $PGBOUNCER, else from PATH or where Debian puts it."""
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooler:
    """A PgBouncer that runs."""

    port: int
    pid: int
    cluster: Cluster

    def target(self, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 any option of a target
        """The options of a target that leads through it, with a keeper that does not (for `Proxy.target`)."""
        return {"port": self.port, "pooler": "session", "max_protocol_version": "3.0", **changed}


@contextmanager
def running(
    program: Path, cluster: Cluster, authority: Authority, *, users: Sequence[str] = USERS, **settings: str
) -> Iterator[Pooler]:
    """PgBouncer in front of `cluster` for these users, with these settings beside or instead of the harness's own."""
    account = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="curfew-pgbouncer-"))
    try:
        port = free_port()
        authority.server(stem="pgbouncer", folder=folder)
        lines = [f'"{user}" "{_secret(cluster, user)}"\n' for user in users]
        (folder / "userlist.txt").write_text("".join(lines))
        chosen = "".join(f"{name} = {value}\n" for name, value in (_settings(folder, port) | settings).items())
        text = f"[databases]\n* = host={HOST} port={cluster.port}\n\n[pgbouncer]\n{chosen}"
        (folder / "pgbouncer.ini").write_text(text)
        for path in (folder, *folder.iterdir()) if account else ():  # it refuses to run as root
            assert account is not None
            os.chown(path, account.uid, account.gid)
        with Process([program, folder / "pgbouncer.ini"], account=account, folder=Path("/")) as process:
            eventually_sync(lambda: _accepts(port) or not process.running, what="PgBouncer's start")
            assert process.running, f"PgBouncer did not start:\n{process.output}"
            yield Pooler(port=port, pid=process.pid, cluster=cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, port: int) -> dict[str, str]:
    return {
        "listen_addr": HOST,
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": f"{folder}/userlist.txt",
        "server_tls_sslmode": "require",
        "client_tls_sslmode": "require",
        "client_tls_cert_file": f"{folder}/pgbouncer.pem",
        "client_tls_key_file": f"{folder}/pgbouncer.key",
    }


def _secret(cluster: Cluster, user: str) -> str:
    return cluster.psql("SELECT rolpassword FROM pg_authid WHERE rolname = :'name'", name=user)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
