"""The logins at PostgreSQL that Curfew's tests use: the keeper as deploy/keeper.sql makes it, and vaulted logins."""

from dataclasses import dataclass
from pathlib import Path

from tests.harness.postgres import Cluster

_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_KEEPER_SQL = _DEPLOY / "keeper.sql"
_ACCOUNTS_SQL = _DEPLOY / "keeper-accounts.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A role that can log in. Its password is no secret: the server lives as long as the tests."""

    user: str
    password: str


KEEPER = Login(user="curfew_keeper", password="keeper's password, \\ and all")
APP = Login(user="curfew_app", password="the application's päss'word")
"""A vaulted login that may create tables and owns what it makes."""
READONLY = Login(user="curfew_readonly", password="read-only")
"""A vaulted login that may read everything and write nothing."""


def install(cluster: Cluster) -> None:
    """Make the three logins on a started cluster, once."""
    cluster.psql(_KEEPER_SQL.read_text())
    for login in (APP, READONLY):
        cluster.psql(f"CREATE ROLE {login.user} LOGIN")
    for login in (KEEPER, APP, READONLY):
        cluster.psql(f"ALTER ROLE {login.user} PASSWORD :'password'", password=login.password)
    cluster.psql(f"GRANT pg_read_all_data TO {READONLY.user}")


def install_accounts(cluster: Cluster) -> None:
    """Let the keeper make accounts, after `install`."""
    cluster.psql(_ACCOUNTS_SQL.read_text())


def let_keeper_alter(cluster: Cluster, role: str) -> None:
    """Let the keeper set a password for a person's own role, as deploy/keeper-accounts.sql says it."""
    if int(cluster.psql("SHOW server_version_num")) >= 160_000:
        cluster.psql(f"GRANT {role} TO {KEEPER.user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")


def create_database(cluster: Cluster, name: str) -> None:
    """A new database that APP owns, so that it may do anything in it (also on PostgreSQL 15 and newer)."""
    cluster.psql(f"CREATE DATABASE {name} OWNER {APP.user}")


def drop_database(cluster: Cluster, name: str) -> None:
    """Drop it, with whoever is still connected."""
    cluster.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
