"""pg_basebackup, pg_receivewal, pg_recvlogical and psql as replication clients: what they get, what is recorded."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.contract.record import Copy, Notice, SessionEnd, decode
from proxy.contract.verification import verify_chain
from proxy.identity import load_or_create
from tests.conftest import Watcher
from tests.harness import replication
from tests.harness.binaries import postgresql_bin
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.processes import Process, run
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.replication import DATABASE
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually

LOGICAL = ("-d", f"orders/{DATABASE}")
WARN_S, LASTS_S = 1.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a grant to replicate."""

    proxy: Proxy
    grant: str
    token: str

    def command(self, program: str, *arguments: str) -> list[str | Path]:
        """The program, by its path."""
        return [postgresql_bin() / program, *arguments]

    def run(self, program: str, *arguments: str) -> str:
        """What it prints, both streams."""
        done = run(self.command(program, *arguments), environment=self.proxy.psql_env(self.token))
        return done.stdout + done.stderr

    def start(self, program: str, *arguments: str) -> Process:
        """The program, running."""
        return Process(self.command(program, *arguments), environment=self.proxy.psql_env(self.token))

    async def sessions(self, count: int = 1) -> list[list[bytes]]:
        """The journal's lines of each session on the grant, when so many have ended."""

        def ended() -> list[list[bytes]]:
            mine = [lines for lines in self.proxy.sessions().values() if f'"grant":"{self.grant}"'.encode() in lines[0]]
            over = all(isinstance(decode(lines[-1]), SessionEnd) for lines in mine)
            return mine if over and len(mine) == count else []

        sessions = await eventually(ended, what=f"{count} sessions on {self.grant} and their ends")
        for lines in sessions:
            verify_chain(lines, load_or_create(self.proxy.state).public_key())
        return sessions


def person(proxy: Proxy, *, lasts_s: float = 600) -> Person:
    """Somebody with a new grant."""
    grant = new_grant_id()
    made = make_grant(id=grant, profile=replication.PROFILE)
    return Person(proxy=proxy, grant=grant, token=proxy.signer.token(made, exp=time.time() + lasts_s))


@pytest.fixture
async def observer(replicated: Cluster) -> AsyncIterator[Watcher]:
    """The superuser's own connection, past every proxy."""
    connection = await replicated.connect(database=DATABASE)
    yield connection
    await connection.close()


async def walsenders(observer: Watcher) -> set[int]:
    """The pids of the profile's backends."""
    rows = await observer.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", replication.BACKUP.user)
    return {row["pid"] for row in rows}


async def streaming(observer: Watcher) -> bool:
    """Whether somebody streams."""
    return bool(await observer.fetchval("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"))


async def test_base_backup(replicator: Proxy, replicated: Cluster, tmp_path: Path) -> None:
    """A backup with its WAL streamed beside it is whole, and each of its two sessions' commands is on record."""
    dba = person(replicator)
    dba.run("pg_basebackup", "-D", str(tmp_path / "copy"), "-c", "fast", "-X", "stream")
    assert "successfully verified" in run([postgresql_bin() / "pg_verifybackup", tmp_path / "copy"]).stdout
    sessions = await dba.sessions(2)
    for lines in sessions:
        start, statements = replication.recorded(lines)
        assert (start.replication, start.database) == ("physical", "")
        assert statements == replication.commands(replicated, start.backend_pid)
    assert copies(sessions).keys() == {"out", "both"}
    assert copies(sessions)["out"] > sum(path.stat().st_size for path in (tmp_path / "copy" / "base").rglob("*/*"))


async def test_base_backup_as_tar(replicator: Proxy, tmp_path: Path) -> None:
    """What is recorded as sent is what came: the archive, the manifest, and the few bytes that tell them apart."""
    dba = person(replicator)
    dba.run("pg_basebackup", "-D", str(tmp_path / "tar"), "-F", "t", "-c", "fast", "-X", "fetch")
    sizes = [(tmp_path / "tar" / name).stat().st_size for name in ("base.tar", "backup_manifest")]
    (sent,) = copies(await dba.sessions()).values()
    assert sum(sizes) <= sent <= sum(sizes) * 1.01


def copies(sessions: list[list[bytes]]) -> dict[str, int]:
    """The bytes of all COPYs, by direction."""
    records = [decode(line) for lines in sessions for line in lines]
    found: dict[str, int] = {}
    for one in records:
        if isinstance(one, Copy):
            assert not one.failed
            found[one.direction] = found.get(one.direction, 0) + one.bytes
    return found


async def test_receive_wal(replicator: Proxy, replicated: Cluster, observer: Watcher, tmp_path: Path) -> None:
    """The segment that comes is the server's own, byte for byte; and the client's goodbye ends the stream in order."""
    dba = person(replicator)
    with dba.start("pg_receivewal", "-D", str(tmp_path), "-n") as tool:
        await eventually(lambda: streaming(observer))
        await observer.execute("INSERT INTO work SELECT generate_series(1, 1000)")
        name = await observer.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        await eventually((tmp_path / name).exists)
        tool.signal(signal.SIGINT)
        assert await asyncio.to_thread(tool.wait) == 0
    segment = (tmp_path / name).read_bytes()
    assert segment == (replicated.data / "pg_wal" / name).read_bytes()
    (lines,) = await dba.sessions()
    assert copies([lines])["both"] > len(segment)
    start, statements = replication.recorded(lines)
    assert statements == replication.commands(replicated, start.backend_pid)


async def test_receive_changes(replicator: Proxy, replicated: Cluster) -> None:
    """Logical decoding of the database that was named, and the slot's life, on record."""
    dba = person(replicator)
    dba.run("pg_recvlogical", *LOGICAL, "--slot", "changes", "--create-slot", "-P", "test_decoding")
    replicated.psql("SET synchronous_commit = on; INSERT INTO work VALUES (4711)", database=DATABASE)
    end = replicated.psql("SELECT pg_current_wal_lsn()")
    slot = (*LOGICAL, "--slot", "changes")
    said = dba.run("pg_recvlogical", *slot, "--start", "-n", "-f", "-", "--endpos", end)
    assert "table public.work: INSERT: n[integer]:4711" in said
    dba.run("pg_recvlogical", *slot, "--drop-slot")
    for lines in await dba.sessions(3):
        start, statements = replication.recorded(lines)
        assert (start.replication, start.database) == ("logical", DATABASE)
        assert statements == replication.commands(replicated, start.backend_pid)


async def test_psql(replicator: Proxy, replicated: Cluster) -> None:
    """By hand, with SQL between the commands; the person stands in the database's own settings."""
    dba = person(replicator)
    conninfo = f"dbname=orders/{DATABASE} replication=database"
    commands = ("-c", "IDENTIFY_SYSTEM", "-c", "SHOW curfew.person", "-c", "SELECT backend_type FROM pg_stat_activity")
    said = dba.run("psql", "-X", "-A", "-t", *commands, conninfo)
    assert f"|{DATABASE}\n" in said
    assert "\ndba1\n" in said
    assert "\nwalsender\n" in said
    ((start, statements),) = [replication.recorded(lines) for lines in await dba.sessions()]
    assert statements == replication.commands(replicated, start.backend_pid) == list(commands[1::2])


# Their end.


@pytest.fixture(scope="module")
def warning(replicated: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that warns shortly before the end of a grant."""
    with replication.proxy(replicated, ca, tmp_path_factory.mktemp("warning"), warn_before_s=[WARN_S]) as proxy:
        yield proxy


async def end_of(tool: Process, dba: Person, observer: Watcher, end: float, sessions: int = 1) -> None:
    """It was warned, its walsenders are gone within a second of the grant's end, and the record says so."""
    assert "WARNING:  access to orders ends in 1 s" in tool.output
    assert len(await walsenders(observer)) == sessions

    async def gone() -> bool:
        return not await walsenders(observer)

    await eventually(gone, within=end - time.time() + 1.0)
    assert time.time() >= end
    assert await asyncio.to_thread(tool.wait) != 0
    for lines in await dba.sessions(sessions):
        records = [decode(line) for line in lines]
        last = records[-1]
        assert isinstance(last, SessionEnd)
        assert (last.reason, last.outcome) == ("expired", "rolled back")
        assert last.gone_at is not None
        assert 0 < last.gone_at - last.decided_at < 1e9
        assert [one.sqlstate for one in records if isinstance(one, Notice)] == ["01000"]


def assert_told(tool: Process, dba: Person) -> None:
    """Why it ended, and what to do."""
    assert f"FATAL:  access to orders has ended: the grant has expired (grant {dba.grant}" in tool.output
    assert "HINT:  Ask again: curfew request orders backup" in tool.output


async def test_receive_wal_until_the_end(warning: Proxy, observer: Watcher, tmp_path: Path) -> None:
    """A warning in mid-stream does no harm in either direction; the stream ends with the grant."""
    end = time.time() + LASTS_S
    dba = person(warning, lasts_s=LASTS_S)
    with dba.start("pg_receivewal", "-D", str(tmp_path), "-n", "--synchronous") as tool:
        await eventually(lambda: "access to orders ends" in tool.output, within=LASTS_S)
        at = await observer.fetchval("INSERT INTO work VALUES (1) RETURNING pg_current_wal_lsn()::text")

        async def confirmed() -> bool:
            return bool(await observer.fetchval("SELECT flush_lsn > $1::text::pg_lsn FROM pg_stat_replication", at))

        await eventually(confirmed, what="the client's word that it has what came behind the warning")
        await end_of(tool, dba, observer, end)
        assert_told(tool, dba)


async def test_receive_changes_until_the_end(warning: Proxy, observer: Watcher) -> None:
    """The same of logical decoding. A slot that nobody drops stays, which is why the records show who made it."""
    end = time.time() + LASTS_S
    dba = person(warning, lasts_s=LASTS_S)
    options = ("--slot", "left", "-P", "test_decoding", "--create-slot", "--start", "-n", "-f", "-")
    with dba.start("pg_recvlogical", *LOGICAL, *options) as tool:
        await eventually(lambda: "access to orders ends" in tool.output, within=LASTS_S)
        await observer.execute("INSERT INTO work VALUES (4712)")
        await eventually(lambda: "INSERT: n[integer]:4712" in tool.output)
        await end_of(tool, dba, observer, end)
        assert_told(tool, dba)
    assert await observer.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = 'left'") is False
    await observer.execute("SELECT pg_drop_replication_slot('left')")


async def test_base_backup_until_the_end(warning: Proxy, observer: Watcher, tmp_path: Path) -> None:
    """Both of its sessions; the temporary slot of the one goes with it.

    It shows warnings, but never asks libpq for an error that ends its COPY: ReceiveCopyData of pg_basebackup.c.
    """
    end = time.time() + LASTS_S
    dba = person(warning, lasts_s=LASTS_S)
    options = ("-c", "fast", "-X", "stream", "--max-rate", "1M")
    with dba.start("pg_basebackup", "-D", str(tmp_path / "copy"), *options) as tool:
        await eventually(lambda: tool.output.count("access to orders ends") == 2, within=LASTS_S)
        assert await observer.fetchval("SELECT count(*) FROM pg_replication_slots WHERE temporary AND active") == 1
        await end_of(tool, dba, observer, end, sessions=2)
        assert "pg_basebackup: error: " in tool.output
    assert await observer.fetchval("SELECT count(*) FROM pg_replication_slots") == 0


async def test_a_client_that_is_killed(replicator: Proxy, observer: Watcher, tmp_path: Path) -> None:
    """Its walsender does not stream on to nobody."""
    dba = person(replicator)
    with dba.start("pg_receivewal", "-D", str(tmp_path), "-n") as tool:
        await eventually(lambda: streaming(observer))
        tool.signal(signal.SIGKILL)

        async def gone() -> bool:
            return not await walsenders(observer)

        await eventually(gone, within=2.0)
    (lines,) = await dba.sessions()
    last = decode(lines[-1])
    assert isinstance(last, SessionEnd)
    assert last.reason == "client_lost"
