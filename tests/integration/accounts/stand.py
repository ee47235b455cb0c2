"""The accounts of one proxy process, without the process: the real parts on a real server, driven by hand."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.account_ledger import Ledger
from proxy.account_making import Plan
from proxy.account_names import identifier, literal, mark_text, read_mark
from proxy.account_password import Passwords
from proxy.account_reach import Reach
from proxy.accounts import Accounts
from proxy.backstop import Backstop
from proxy.config import read_secret
from proxy.contract.grant import Grant
from proxy.contract.record import EndReason
from proxy.contract.settings import AccessProfile, Account, Target
from proxy.metrics import Metrics
from proxy.shared import TargetLink
from proxy.tasks import spawn
from proxy.upstream import Dialler
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.tokens import grant
from tests.harness.waiting import eventually
from tests.integration.upstream.targets import Raw, parameters, target_of

OWNER = "orders_owner"
DATABASES = ("sales", "stock")
_numbers = itertools.count(1)

SCRIPT = f"""
CREATE ROLE {OWNER};
CREATE ROLE staff;
CREATE ROLE team;
CREATE ROLE colleague LOGIN;
"""
IN_DATABASE = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id serial PRIMARY KEY, note text);
INSERT INTO shop.orders (note) VALUES ('first');
CREATE TABLE shop.secrets (text text);
GRANT USAGE ON SCHEMA shop TO curfew_giver WITH GRANT OPTION;
GRANT SELECT, INSERT ON shop.orders TO curfew_giver WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE shop.orders_id_seq TO curfew_giver WITH GRANT OPTION;
"""


def install(cluster: Cluster) -> None:
    """Make what the tests need on a started cluster: the keeper with its rights, and two databases with an owner."""
    roles.install(cluster)
    roles.install_accounts(cluster)
    newer = int(cluster.psql("SHOW server_version_num")) >= 160_000
    admin = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" if newer else ""
    inherit = "WITH INHERIT TRUE, SET FALSE" if newer else ""
    cluster.psql(SCRIPT)
    if newer:  # as deploy/keeper-accounts.sql has it
        cluster.psql(f"GRANT {OWNER}, team TO {roles.KEEPER.user} {admin}")
    cluster.psql(f"CREATE ROLE curfew_giver; GRANT curfew_giver TO {roles.KEEPER.user} {inherit}")
    for name in DATABASES:
        cluster.psql(f"CREATE DATABASE {name} OWNER {OWNER}")
        cluster.psql(f"SET ROLE {OWNER};" + IN_DATABASE, database=name)


def new_grant(*, person: str = "dba1", lasts_s: float = 600, **changed: Any) -> Grant:  # noqa: ANN401 any field of Grant
    """A grant that no other test has, for what the stand calls `profile`."""
    named = {"id": f"grt_{next(_numbers):016x}", "profile": "made", **changed}
    return grant(person=person, lasts_s=lasts_s, **named)


@dataclass(kw_only=True)
class Stand:
    """One process's accounts on `cluster`. Enter it; what is left in the end is the test's to look at."""

    cluster: Cluster
    folder: Path
    profile: AccessProfile
    key: Ed25519PrivateKey
    sweeps: bool = False
    finish_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"access": {"made": self.profile}, "finish_timeout_s": self.finish_timeout_s}
        self.target: Target = target_of(self.cluster, self.folder, database="sales", **options)
        self.metrics = Metrics()
        self.link = TargetLink(
            name="orders",
            settings=self.target,
            dialler=Dialler("orders", self.target, read_secret=read_secret),
            reach=Reach("orders", self.target, read_secret=read_secret),
            backstop=Backstop("orders", wanted=False),
            keepers={},
        )
        self.links = {"orders": self.link}
        self._tasks: list[asyncio.Task[None]] = []
        self._sessions = itertools.count(1)
        self._working: list[Working] = []

    async def __aenter__(self) -> Self:
        self.ledger = Ledger.open(self.folder)
        self.accounts = Accounts(
            lambda: self.links,
            ledger=self.ledger,
            passwords=Passwords(self.key),
            metrics=self.metrics,
            sweeps=self.sweeps,
        )
        self._tasks.append(spawn("accounts", self.accounts.run()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for working in self._working:
            working.raw.close()
        await self.accounts.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def connect(self, made: Grant, database: str = "sales", session: str = "") -> "Working":
        """A session on `made`."""
        finish_timeout_s = self.target.finish_timeout_s
        plan = Plan(
            grant=made, profile=self.profile, target="orders", database=database, finish_timeout_s=finish_timeout_s
        )
        name = session or f"session {next(self._sessions)}"
        try:
            connected = await self.accounts.connect(name, plan, self.link, parameters(plan.user, database))
        except BaseException:
            self.accounts.released(name, None)
            raise
        self._working.append(Working(stand=self, name=name, plan=plan, raw=Raw(connected)))
        return self._working[-1]

    async def gone(self, made: Grant | Plan, within: float = 10.0) -> None:
        """Wait until the account is gone, from the server and from the ledger."""
        account = (
            made.account
            if isinstance(made, Plan)
            else Plan(grant=made, profile=self.profile, target="orders", database="sales").account
        )

        async def is_gone() -> bool:
            return not await roles_like(self.cluster, account)

        await eventually(is_gone, within=within, what=f"the end of {account}")


@dataclass(kw_only=True)
class Working:
    """A session that works."""

    stand: Stand
    name: str
    plan: Plan
    raw: Raw

    async def run(self, sql: str) -> None:
        """Run `sql`, which must succeed."""
        said = await self.raw.run(sql)
        errors = [body for kind, body in said if kind == ord("E")]
        assert not errors, errors

    async def refused(self, sql: str) -> bytes:
        """What PostgreSQL says against `sql`."""
        said = await self.raw.run(sql)
        return b"".join(body for kind, body in said if kind == ord("E"))

    async def value(self, sql: str) -> str:
        """The first column of the one row."""
        return await self.raw.value(sql)

    def leave(self, reason: EndReason = "closed") -> None:
        """The backend is let go, and the accounts hear of it."""
        self.raw.connected.leg.transport.abort()
        self.stand.accounts.released(self.name, reason)


async def roles_like(cluster: Cluster, name: str) -> list[str]:
    """The roles of this name, with whoever is a member."""
    rows = await cluster.sql("SELECT rolname FROM pg_roles WHERE rolname = $1", name)
    return [row["rolname"] for row in rows]


async def person_is_in(cluster: Cluster, person: str) -> list[str]:
    """The roles that a person's own role is a member of, in the order of joining."""
    rows = await cluster.sql(
        "SELECT rolname FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = roleid"
        " WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1) ORDER BY roleid",
        person,
    )
    return [row["rolname"] for row in rows]


async def accounts_left(cluster: Cluster) -> list[str]:
    """Every account and every membership of one that there is."""
    rows = await cluster.sql(
        "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE 'Curfew account %'"
        " UNION ALL SELECT 'member ' || member::regrole || ' of ' || roleid::text FROM pg_auth_members"
        " WHERE roleid NOT IN (SELECT oid FROM pg_roles)"
    )
    return [row["rolname"] for row in rows]


def ephemeral(**account: Any) -> AccessProfile:  # noqa: ANN401 any option
    """A profile with an account of its own."""
    return AccessProfile(identity="ephemeral", account=Account(**{"preset": "readonly", "linger_s": 0.0, **account}))


def elevated(cluster: Cluster, **account: Any) -> AccessProfile:  # noqa: ANN401 as above
    """A profile for people's own roles, by certificate."""
    authority = cluster.authority
    files = {"ca_certificate_file": str(authority.file), "ca_key_file": str(authority.key())}
    options = {"preset": "readonly", "linger_s": 0.0, **files, **account}
    return AccessProfile(identity="elevated", account=Account(**options))


def by_password(**account: Any) -> AccessProfile:  # noqa: ANN401 as above
    """The same by a password."""
    options = {"preset": "readonly", "linger_s": 0.0, "elevate_by": "password", **account}
    return AccessProfile(identity="elevated", account=Account(**options))


def changed(profile: AccessProfile, **account: Any) -> AccessProfile:  # noqa: ANN401 as above
    """The profile with other options for its account."""
    return msgspec.structs.replace(profile, account=msgspec.structs.replace(profile.account, **account))


def create_person(cluster: Cluster, name: str, *, attributes: str = "LOGIN") -> None:
    """A standing role, whose certificates the server takes (`conftest`)."""
    quoted = '"' + name.replace('"', '""') + '"'
    cluster.psql(f"CREATE ROLE {quoted} {attributes}; GRANT staff TO {quoted}")


async def age(cluster: Cluster, account: str) -> None:
    """Have the account's mark say that its grant has long been over."""
    ((comment,),) = await cluster.sql(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", account
    )
    mark = read_mark(comment)
    assert mark is not None
    old = mark_text(msgspec.structs.replace(mark, until=time.time() - 3_600))
    await cluster.sql(f"COMMENT ON ROLE {identifier(account)} IS {literal(old)}")


def versions() -> Sequence[int]:
    """The majors that every test here runs on, or $CURFEW_VERSIONS says others; `test_whole` is on the usual one."""
    return [int(one) for one in os.environ.get("CURFEW_VERSIONS", "14,18").split(",")]
