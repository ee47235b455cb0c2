"""What a suite is run against: two PostgreSQLs of the same making, the proxy in front of one, and the way to each.

The suite is the superuser `postgres` on both ways and names its databases as ever: a grant each leads to a target that
is called as the database. So the names that a client sends, and gets back, are the same.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.digest import Tapped
from tests.harness.digest import tapped as tapped_proxy
from tests.harness.postgres import Cluster
from tests.suites import legs
from tests.suites.outcomes import CURFEW, DIRECT
from tests.suites.suite import Suite, Way

HOST = "localhost"
PROFILE = "superuser"
GRANT_LASTS_S = 4 * 3_600.0
USER = "postgres"
_REPLICATION = "replication"
"""What libpq looks for in the passfile where a physical replication connection names no database."""
_VARIABLE = "TEST_PASSWORD_OF_SUPERUSER"
_COME_WITH_POSTGRESQL = ("postgres", "template1")
_SETTINGS: Mapping[str, str] = {"log_min_messages": "log", "log_min_error_statement": "panic"}
"""The log has every statement, but not every error: suites provoke them by the thousand."""
STATEMENT_LOG = "statements.csv"
"""PostgreSQL's own account of what came through the proxy."""


@contextmanager
def direct(suite: Suite, folder: Path) -> Iterator[Way]:
    """A PostgreSQL and the way straight to it."""
    authority = Authority(folder)
    with _cluster(suite, authority) as cluster:
        passwords = dict.fromkeys((*suite.databases, _REPLICATION), cluster.password)
        yield _way(DIRECT, cluster.port, passwords, authority, folder)


@contextmanager
def through_curfew(suite: Suite, folder: Path) -> Iterator[Way]:
    """Another PostgreSQL, and the way through a proxy in front of it, with a tap on each of its legs.

    Afterwards the proxy's state is in `folder`, the server's log in STATEMENT_LOG, and in `legs.FILE` what was tapped.
    """
    authority = Authority(folder)
    with _cluster(suite, authority) as cluster:
        with _proxy(suite, cluster, authority, folder) as tapped:
            passwords = {
                name: tapped.proxy.token(person=cluster.superuser, target=name, profile=PROFILE, lasts_s=GRANT_LASTS_S)
                for name in suite.databases
            }
            passwords[_REPLICATION] = passwords[suite.databases[0]]
            yield _way(CURFEW, tapped.port, passwords, authority, folder)
            tapped.wait_for_ends()
            legs.hold(tapped.client, tapped.upstream).write(folder)
        cluster.stop()  # its log is whole then
        shutil.copyfile(cluster.data / "log" / "postgresql.csv", folder / STATEMENT_LOG)


@contextmanager
def _cluster(suite: Suite, authority: Authority) -> Iterator[Cluster]:
    with Cluster(authority, settings={**_SETTINGS, **suite.settings}, log_statements=True) as cluster:
        roles.install(cluster)
        # A superuser's backends can be ended by a superuser alone, and sessions that cannot be ended are refused.
        cluster.psql(f"ALTER ROLE {roles.KEEPER.user} SUPERUSER")
        for name in suite.databases:
            if name not in (*_COME_WITH_POSTGRESQL, *suite.makes):
                cluster.psql(f"CREATE DATABASE {name}")
        suite.prepare(cluster)
        yield cluster


def _proxy(suite: Suite, cluster: Cluster, authority: Authority, folder: Path) -> AbstractContextManager[Tapped]:
    profile = {
        "user": cluster.superuser,
        "password": {"env": _VARIABLE},
        "replication": "all" if suite.replication else "none",
    }
    return tapped_proxy(
        cluster,
        authority,
        folder,
        encrypted=True,
        kept_bytes=legs.KEPT_BYTES,
        target={"access": {PROFILE: profile}},
        further={name: {"database": name} for name in suite.databases},
        options={"log_level": "warning"},
        environment={_VARIABLE: cluster.password},
    )


def _way(
    name: Literal["direct", "curfew"], port: int, passwords: Mapping[str, str], authority: Authority, folder: Path
) -> Way:
    pass_file = folder / "passfile"
    pass_file.touch(mode=0o600)
    lines = [f"{HOST}:{port}:{database}:{USER}:{_escaped(text)}\n" for database, text in passwords.items()]
    pass_file.write_text("".join(lines))
    return Way(
        name=name,
        host=HOST,
        port=port,
        user=USER,
        ca_file=authority.file,
        pass_file=pass_file,
    )


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")
