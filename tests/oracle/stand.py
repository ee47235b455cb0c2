"""What the script is said to: one PostgreSQL, the proxy in front of it, and the way to each.

One role, one database, one set of bytes: the database, the target and the role are called alike on both ways, and
PostgreSQL asks everybody for a password in clear, as the proxy asks for its token. So even the login is comparable.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import run
from tests.harness.proxy import Proxy
from tests.oracle.talk import ALPN, Way

DATABASE = "orders"
_HBA = [f"host {databases} all 127.0.0.1/32 password" for databases in ("all", "replication")]
_QUICKLY_COMPARED = f"SET password_encryption = md5; ALTER ROLE {roles.APP.user} PASSWORD :'password'"
"""A password in clear is held against a SCRAM verifier in some 5 ms of work, and there are 600 logins."""
_TOKEN_LASTS_S = 3_600


@contextmanager
def ready(programs: Path) -> Iterator[tuple[Way, Way]]:
    """The way straight to a PostgreSQL of these programs, and the one through Curfew."""
    with tempfile.TemporaryDirectory(prefix="curfew-oracle-") as folder:
        authority = Authority(Path(folder))
        with Cluster(authority, programs=programs, hba=_HBA) as cluster:
            roles.install(cluster)
            cluster.psql(_QUICKLY_COMPARED, password=roles.APP.password)
            roles.create_database(cluster, DATABASE)
            proxy = Proxy(
                cluster=cluster,
                ca=authority,
                folder=Path(folder) / "proxy",
                database=DATABASE,
                options={"plaintext": "loopback", "drain_timeout_s": 1.0},
                target={"require_auth": ["password"]},
            )
            with proxy:
                token = proxy.token(person=roles.APP.user, lasts_s=_TOKEN_LASTS_S)
                yield (
                    _way("direct", cluster.port, roles.APP.password, authority),
                    _way("curfew", proxy.port, token, authority),
                )


def _way(name: str, port: int, password: str, authority: Authority) -> Way:
    direct_tls = authority.client_context()
    direct_tls.set_alpn_protocols([ALPN])
    return Way(
        name=name,
        port=port,
        user=roles.APP.user,
        database=DATABASE,
        password=password,
        tls=authority.client_context(),
        direct_tls=direct_tls,
    )


def major_version(programs: Path) -> int:
    """PostgreSQL's major version: `postgres (PostgreSQL) 18.6` is 18."""
    return int(run([programs / "postgres", "--version"]).stdout.split()[2].partition(".")[0])
