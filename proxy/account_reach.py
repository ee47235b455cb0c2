"""The keeper's login on connections of a job's own: where accounts are made and taken down.

Each is short-lived, to the database that the job is about, on the server that takes writes; the warm connection of
`proxy.stop` is for ending backends and is never kept waiting by this. Owns the lock that makes all workers and proxies
of a target take turns at an account.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from proxy.contract.settings import Host, Secret, Target
from proxy.dial import UpstreamError
from proxy.query import SETTINGS, Connection, LostError, QueryError
from proxy.upstream import Dialler
from proxy.wire import messages

STATEMENT_S = 15.0
LOCK_S = 5.0
"""A table that is in use: whoever has it comes first, and we come again."""
TURN_S = 12.0
"""How long somebody else's turn is waited for."""
_WAIT = "SELECT pg_catalog.set_config('lock_timeout', $1, false)"
_STARTUP = (
    *SETTINGS,
    (b"application_name", b"curfew-accounts"),
    (b"search_path", b"pg_catalog"),
    (b"statement_timeout", b"%ds" % STATEMENT_S),
    (b"lock_timeout", b"%ds" % LOCK_S),
    (b"idle_session_timeout", b"60s"),
    (b"idle_in_transaction_session_timeout", b"30s"),
    (b"default_transaction_isolation", b"read committed"),
    (b"default_transaction_read_only", b"off"),
)
_NO_DATABASE = "3D000"
AT_ONCE = 2
"""Jobs of a kind, on one target, by one process. Each takes one or two of the keeper's connections."""


class Reach:
    """The way to one target for jobs on accounts."""

    def __init__(self, name: str, target: Target, *, read_secret: Callable[[Secret | None], str | None]) -> None:
        """Raises SettingsError."""
        self.name = name
        self.target = target
        self._keeper = target.keeper
        several = len(target.hosts) > 1
        writing = msgspec.structs.replace(target, target_session_attrs="primary" if several else "any")
        self._writing = Dialler(name, writing, read_secret=read_secret)
        self._hosts = {
            host: Dialler(name, target.at(host), read_secret=read_secret) for host in (target.hosts if several else ())
        }
        self.making = asyncio.Semaphore(AT_ONCE)
        self.ending = asyncio.Semaphore(AT_ONCE)
        self.dropped: list[str] = []
        """The oids of accounts that were dropped a moment ago (`proxy.account_ending.look_again`)."""

    @asynccontextmanager
    async def connection(self, database: str, host: Host | None = None) -> AsyncIterator[Connection]:
        """A connection to `database`, on the server that takes writes or on `host`. Raises UpstreamError."""
        dialler = self._writing if host is None else self._hosts.get(host, self._writing)
        named = [(b"user", self._keeper.user.encode()), (b"database", database.encode())]
        try:
            connected = await dialler.log_in(self._keeper, [*named, *_STARTUP])
        except UpstreamError as error:
            # No CredentialError: it is not the account that was refused. Of the rest, that there is no such database is
            # what the person asked for; everything else is the operators' matter.
            answer = error.answer if error.sqlstate == _NO_DATABASE else None
            raise UpstreamError(
                f"the keeper, to see to accounts: {error}", sqlstate=error.sqlstate, public=error.public, answer=answer
            ) from error
        connection = Connection(connected, on_end=lambda: None)
        try:
            yield connection
        finally:
            if connection.lost is None:
                connected.leg.write(messages.TERMINATE)
            connection.close()

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator["Turn"]:
        """Our turn at what `key` names: nobody else has one at the same until this is over.

        The lock is in the keeper's own database, because PostgreSQL's advisory locks are each database's own, and it
        goes with the connection. Raises UpstreamError, LostError, QueryError.
        """
        number = int.from_bytes(hashlib.sha256(f"curfew account {key}".encode()).digest()[:8], signed=True)
        async with self.connection(self._keeper.database) as connection:
            await ask(connection, _WAIT, f"{TURN_S:g}s")
            await ask(connection, "SELECT pg_catalog.pg_advisory_lock($1::pg_catalog.int8)", str(number))
            await ask(connection, _WAIT, f"{LOCK_S:g}s")
            yield Turn(reach=self, connection=connection, home=self._keeper.database)

    @property
    def standbys(self) -> list[Host]:
        """The hosts to look at one by one, where there are several."""
        return list(self._hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn."""

    reach: Reach
    connection: Connection
    """To the keeper's own database."""
    home: str

    @asynccontextmanager
    async def database(self, name: str) -> AsyncIterator[Connection]:
        """A connection to the database `name`; ours, where it leads there."""
        if name == self.home:
            yield self.connection
        else:
            async with self.reach.connection(name) as other:
                yield other


async def ask(connection: Connection, sql: str, *values: str | None) -> list[tuple[str | None, ...]]:
    """The rows of one statement, within a bound."""
    return await connection.fetch(sql, *values, timeout_s=STATEMENT_S + LOCK_S)


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """All of it or nothing."""
    await ask(connection, "BEGIN")
    try:
        yield
    except BaseException:
        if connection.lost is None:
            with contextlib.suppress(QueryError, LostError):
                await ask(connection, "ROLLBACK")
        raise
    await ask(connection, "COMMIT")
