"""What replication tests stand on: a PostgreSQL that can be replicated from, and a proxy with a profile that may."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.contract.record import SessionStart, StatementStart, decode
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy
from tests.harness.roles import Login
from tests.harness.serverlog import read_log

BACKUP = Login(user="curfew_backup", password="may-replicate")
"""A vaulted login with the attribute REPLICATION, and no other right."""
PROFILE = "backup"
DATABASE = "replicated"
WAL_SENDERS = 8
_SETTINGS: Mapping[str, str] = {
    "log_replication_commands": "on",
    "log_connections": "on",
    "max_wal_senders": str(WAL_SENDERS),
    "wal_level": "'logical'",
}
_VARIABLE = "TEST_PASSWORD_OF_"
_COMMAND = "received replication command: "


def cluster(ca: Authority) -> Cluster:
    """The server, not started."""
    return Cluster(ca, settings=_SETTINGS, log_statements=True)


def install(started: Cluster) -> None:
    """Make the logins of `tests.harness.roles`, BACKUP, and DATABASE with a table `work`."""
    roles.install(started)
    started.psql(f"CREATE ROLE {BACKUP.user} LOGIN REPLICATION PASSWORD '{BACKUP.password}'")
    roles.create_database(started, DATABASE)
    started.psql("CREATE TABLE work (n int)", database=DATABASE)


def proxy(started: Cluster, ca: Authority, folder: Path, **options: Any) -> Proxy:  # noqa: ANN401 any option of [proxy]
    """A proxy whose profile `backup` allows replication; `app` does not, and `unable` does for a role that may not."""
    access = {
        PROFILE: _profile(BACKUP, replication="all"),
        "app": _profile(roles.APP),
        "unable": _profile(roles.READONLY, replication="all"),
    }
    passwords = {_VARIABLE + login.user: login.password for login in (BACKUP, roles.APP, roles.READONLY)}
    return Proxy(
        cluster=started, ca=ca, folder=folder, options=options, target={"access": access}, environment=passwords
    )


def _profile(login: Login, **options: str) -> dict[str, Any]:
    return {"user": login.user, "password": {"env": _VARIABLE + login.user}, **options}


def commands(started: Cluster, pid: int) -> list[str]:
    """What the server's own log says that walsender `pid` was asked, SQL among it."""
    asked = [line for line in read_log(started) if line.pid == pid]
    return [line.statement or line.message.removeprefix(_COMMAND) for line in asked if _is_command(line.message)]


def _is_command(text: str) -> bool:
    return text.startswith((_COMMAND, "statement: "))


def recorded(lines: list[bytes]) -> tuple[SessionStart, list[str]]:
    """A session's start and its statements, from the journal."""
    records = [decode(line) for line in lines]
    start = records[0]
    assert isinstance(start, SessionStart)
    return start, [one.sql for one in records if isinstance(one, StatementStart)]
