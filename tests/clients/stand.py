"""One person with a grant, a database of their own behind a proxy, and both accounts of what was run in it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncpg
import psycopg
from psycopg.conninfo import make_conninfo

from proxy.contract.record import AnyRecord, SessionEnd, SessionStart, decode
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from tests.harness import roles, witness
from tests.harness.binaries import postgresql_bin
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy
from tests.harness.serverlog import LogLine, read_log
from tests.harness.waiting import eventually
from tests.harness.witness import Logged, Recorded

Connection: TypeAlias = "psycopg.AsyncConnection[tuple[object, ...]]"
Statement: TypeAlias = tuple[str, tuple[str | None, ...]]
"""A text with its values, as PostgreSQL writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a client test stands on."""

    cluster: Cluster
    proxy: Proxy
    database: str
    grant: str
    token: str
    programs: Path = field(default_factory=postgresql_bin)
    """Of which PostgreSQL psql and its kin are."""

    @property
    def dbname(self) -> str:
        """What a client names as its database."""
        return f"orders/{self.database}"

    # Ways in.

    @property
    def environment(self) -> dict[str, str]:
        """The environment of PostgreSQL's own programs."""
        return self.proxy.psql_env(self.token, PGDATABASE=self.dbname)

    def run(self, program: str, *arguments: str, text: str = "", check: bool = True) -> str:
        """What one of PostgreSQL's programs prints, both streams."""
        done = run([self.programs / program, *arguments], environment=self.environment, text=text, check=check)
        return done.stdout + done.stderr

    def start(self, program: str, *arguments: str) -> Process:
        """One of PostgreSQL's programs, running."""
        return Process([self.programs / program, *arguments], environment=self.environment)

    def psql(self, *commands: str) -> str:
        """What psql prints for these -c commands."""
        flags = [part for command in commands for part in ("-c", command)]
        return self.run("psql", "-X", "-A", "-t", "-q", *flags)

    def conninfo(self, **changed: str) -> str:
        """A libpq connection string."""
        options = {
            "host": "localhost",
            "port": str(self.proxy.port),
            "user": "dba1",
            "dbname": self.dbname,
            "password": self.token,
            "sslmode": "verify-full",
            "sslrootcert": str(self.proxy.ca.file),
            **changed,
        }
        return make_conninfo(**options)

    async def psycopg(self, **changed: str) -> Connection:
        """A connection by psycopg, which brings libpq 18."""
        return await psycopg.AsyncConnection.connect(self.conninfo(**changed), autocommit=True)

    async def asyncpg(self, **changed: object) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection by asyncpg."""
        return await self.proxy.connect(self.token, **{"database": self.dbname, **changed})

    # What was run.

    async def records(self) -> list[AnyRecord]:
        """Every record of the sessions in this database, once all have ended; each chain is checked."""

        def ended() -> list[list[bytes]]:
            sessions = [lines for lines in self.proxy.sessions().values() if self._is_mine(decode(lines[0]))]
            return sessions if all(isinstance(decode(lines[-1]), SessionEnd) for lines in sessions) else []

        sessions = await eventually(ended, what="the sessions' ends")
        key = load_or_create(self.proxy.state).public_key()
        for lines in sessions:
            verify_chain(lines, key)
        return [decode(line) for lines in sessions for line in lines]

    def _is_mine(self, first: AnyRecord) -> bool:
        return isinstance(first, SessionStart) and first.database == self.database

    async def log(self) -> list[LogLine]:
        """What PostgreSQL has logged of the sessions in this database, all of it."""
        marker = f"SELECT 'end of {self.database}'"
        await self.cluster.sql(marker)
        await eventually(lambda: any(line.statement == marker for line in read_log(self.cluster)))
        mine = (roles.APP.user, self.database)
        return [line for line in read_log(self.cluster) if (line.user, line.database) == mine]

    async def accounts(self) -> tuple[dict[str, list[Logged]], dict[str, list[Recorded]]]:
        """What PostgreSQL says of the sessions in this database, once all have ended, and what the journal says."""
        sessions = witness.read_journal(await self.records())
        return witness.read_log(await self.log()), {one.key: [*one.statements.values()] for one in sessions}

    async def executed(self) -> Counter[Statement]:
        """What PostgreSQL's own log says was run."""
        logged = (await self.accounts())[0].values()
        return Counter((one.text, one.values) for session in logged for one in session if not one.refused)

    async def assert_recorded(self) -> None:
        """Both accounts are the same, values included."""
        logged, recorded = await self.accounts()
        assert logged, "nothing was run"
        assert logged.keys() <= recorded.keys()
        for key, statements in recorded.items():
            found = witness.compare(logged.get(key, ()), statements)
            assert str(found) == ""
            assert list(witness.doubtful(found.pairs)) == []
