"""Many conversations of the random client, each held against PostgreSQL's log at once; what differs is made short."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
from hypothesis import HealthCheck, given, settings

from proxy.contract.record import AnyRecord, SessionEnd, SessionStart, decode
from tests.clients.stand import Stand
from tests.harness import roles
from tests.harness.proxy import new_grant_id
from tests.harness.serverlog import LogLine, entries
from tests.harness.waiting import eventually_sync
from tests.harness.wire import Wire
from tests.harness.witness import read_journal, read_log
from tests.witness.random_client import SETUP, Conversation, conversations, hold
from tests.witness.stand import Place, Verdict, judge
from tests.witness.values import Connection


class Differs(AssertionError):  # noqa: N818 says what was found
    """The two accounts of a conversation are not the same."""


def converse(place: Place, stand: Stand, examples: int, *, repeatable: bool = False) -> Verdict:
    """Hold so many conversations; `repeatable`: the same ones every time.

    What differs is in the verdict, of the shortest conversation that shows it.
    """
    place.cluster.psql(f"SET ROLE {roles.APP.user}; {SETUP}", database=stand.database)
    log, journal = Tail(place.cluster.data / "log" / "postgresql.csv"), Tail(stand.proxy.state / "journal")
    total = Verdict()

    def check(steps: Conversation) -> None:
        nonlocal total
        grant = new_grant_id()
        asyncio.run(_hold(stand, stand.proxy.token(id=grant), steps))
        verdict = _judge(grant, journal, log, server)
        if verdict.differences:
            raise Differs("\n".join((*verdict.differences, *map(str, steps))))
        total += verdict

    with psycopg.connect(place.cluster.dsn(database=stand.database), autocommit=True) as server:
        quiet = settings(
            max_examples=examples,
            derandomize=repeatable,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=[*HealthCheck],
        )
        try:
            quiet(given(conversations)(check))()
        except Differs as error:
            total += Verdict(differences=tuple(str(error).splitlines()))
    return total


async def _hold(stand: Stand, token: str, steps: Conversation) -> None:
    async with await Wire.tls(stand.proxy.port, stand.proxy.ca.client_context()) as wire:
        await wire.log_in(token, ("user", "dba1"), ("database", stand.dbname))
        await hold(wire, steps)


def _judge(grant: str, journal: "Tail", log: "Tail", server: Connection) -> Verdict:
    [session] = read_journal(_records(grant, journal))
    logged = read_log(_logged(log, server))
    return judge(logged.get(session.key, ()), [*session.statements.values()], server)


def _records(grant: str, journal: "Tail") -> Iterator[AnyRecord]:
    """The records of the session on this grant."""
    mine = ""
    while True:
        for one in map(decode, journal.more(b"\n").splitlines()):
            if isinstance(one, SessionStart) and one.grant == grant:
                mine = one.session
            if one.session == mine:
                yield one
                if isinstance(one, SessionEnd):
                    return


def _logged(log: "Tail", server: Connection) -> list[LogLine]:
    """What was logged since the last time, all of it."""
    marker = f"SELECT 'read up to byte {log.at}'"
    server.execute(marker.encode())
    return [*entries(log.more(marker.encode()).decode(errors="replace").splitlines(keepends=True))]


class Tail:
    """What is written at the end of a file, or of the last file in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._last()
        self.at = self._file.stat().st_size

    def _last(self) -> Path:
        return max(self._path.glob("*.ndjson")) if self._path.is_dir() else self._path

    def more(self, until: bytes) -> bytes:
        """The whole lines that have come, once there is `until` in them."""
        found = eventually_sync(lambda: self._found(until), what=f"{until!r} in {self._file}")
        self.at += len(found)
        return found

    def _found(self, until: bytes) -> bytes:
        if (last := self._last()) != self._file:
            self._file, self.at = last, 0
        with self._file.open("rb") as file:
            file.seek(self.at)
            text = file.read()
        return text if until in text and text.endswith(b"\n") else b""
