"""COPY BOTH and what else a walsender does: relayed as it is, recorded, cancelled, and ended in time."""

import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from proxy.contract.record import Copy, Outcome, Record, SessionEnd, StatementEnd, StatementStart, decode
from tests.conftest import Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.replication import DATABASE, PROFILE
from tests.harness.tokens import grant as make_grant
from tests.harness.waiting import eventually
from tests.harness.wire import COPY_DONE, SYNC, TERMINATE, Message, Wire, cancel_request, message, one_by_one, query

PHYSICAL = (("user", "dba1"), ("replication", "true"))
LOGICAL = (("user", "dba1"), ("database", f"orders/{DATABASE}"), ("replication", "database"))
LEAD_S = 0.7
WITHIN_S = 1.0
CREATE = "CREATE_REPLICATION_SLOT slot LOGICAL test_decoding"


@pytest.fixture
async def observer(replicated: Cluster) -> AsyncIterator[Watcher]:
    """The superuser's own connection, past every proxy."""
    connection = await replicated.connect(database=DATABASE)
    yield connection
    await connection.close()


async def stream(wire: Wire, observer: Watcher) -> None:
    """Begin to stream from here."""
    at = await observer.fetchval("SELECT pg_current_wal_lsn()::text")
    wire.send(query(f"START_REPLICATION PHYSICAL {at}"))
    await wire.until("W")


def status(*, reply: bool) -> bytes:
    """A standby's status update, which may ask for a keepalive (PostgreSQL, "Streaming Replication Protocol")."""
    return message("d", b"r" + struct.pack("!QQQQ?", 0, 0, 0, 0, reply))


async def recorded(proxy: Proxy, grant: str) -> list[Record]:
    """The session's records."""
    return [decode(line) for line in await proxy.session_of(grant)]


async def test_both_directions(replicator: Proxy, observer: Watcher) -> None:
    """Both may speak at any time; either's CopyDone ends it, the session goes on, and the bytes are counted."""
    grant = new_grant_id()
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.token(id=grant, profile=PROFILE), *PHYSICAL)
        await stream(wire, observer)
        await observer.execute("SET synchronous_commit = on; INSERT INTO work VALUES (1)")
        came = [await wire.read()]
        while came[-1].body[:1] != b"w":
            came.append(await wire.read())
        wire.send(status(reply=True) * 2)
        while came[-1].body[:1] != b"k":
            came.append(await wire.read())
        wire.send(COPY_DONE)
        came += await wire.until("Z")
        assert [one.kind for one in came if one.kind != "d"] == ["c", "C", "C", "Z"]
        assert [one.kind for one in await wire.run("IDENTIFY_SYSTEM")] == ["T", "D", "C", "Z"]
    records = await recorded(replicator, grant)
    (copy,) = [one for one in records if isinstance(one, Copy)]
    sent = 2 * (len(status(reply=True)) - 5)
    assert (copy.direction, copy.failed) == ("both", False)
    assert copy.bytes == sent + sum(len(one.body) for one in came if one.kind == "d")
    ends = [one for one in records if isinstance(one, StatementEnd)]
    assert ends[-1].tags == ["IDENTIFY_SYSTEM"]


async def test_cancel(replicator: Proxy, observer: Watcher) -> None:
    """A cancel request ends the stream, not the session."""
    grant = new_grant_id()
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.token(id=grant, profile=PROFILE), *PHYSICAL)
        await stream(wire, observer)
        async with await Wire.plain(replicator.port) as other:
            other.send(cancel_request(wire.pid, wire.secret))
            assert await other.rest() == []
        said = await wire.until("Z")
        assert said[-2].fields["C"] == "57014"
        wire.send(status(reply=True) + COPY_DONE)  # Under way when the error came: PostgreSQL passes it over.
        assert [one.kind for one in await wire.run("IDENTIFY_SYSTEM")] == ["T", "D", "C", "Z"]
    ends = [one for one in await recorded(replicator, grant) if isinstance(one, StatementEnd)]
    assert [one.sqlstate for one in ends] == ["57014", None]


async def test_other_protocols_of_a_session(replicator: Proxy) -> None:
    """A walsender takes simple queries alone. What else is sent is PostgreSQL's to refuse, and is on record."""
    grant = new_grant_id()
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.token(id=grant, profile=PROFILE), *LOGICAL)
        wire.send(one_by_one("SELECT 1") + SYNC)
        assert [one.fields["C"] for one in await wire.until("Z") if one.kind == "E"] == ["08P01"]
        wire.send(message("F", struct.pack("!ihhh", 1598, 0, 0, 0)))
        assert [one.fields["C"] for one in await wire.until("Z") if one.kind == "E"] == ["08P01"]
        assert await wire.value("SELECT 2") == "2"
    records = await recorded(replicator, grant)
    starts = {one.statement: one for one in records if isinstance(one, StatementStart)}
    ends = [one for one in records if isinstance(one, StatementEnd)]
    assert [starts[one.statement].kind for one in ends] == ["execute", "function", "query"]
    assert [one.sqlstate for one in ends] == ["08P01", "08P01", None]


@pytest.mark.parametrize(
    "data", [message("f", b"no\0"), message("d", b"?"), SYNC], ids=["CopyFail", "nonsense", "Sync"]
)
async def test_what_no_stream_has(replicator: Proxy, observer: Watcher, data: bytes) -> None:
    """PostgreSQL ends the session, with a word or without; the client is told one, and the record is whole."""
    grant = new_grant_id()
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.token(id=grant, profile=PROFILE), *PHYSICAL)
        await stream(wire, observer)
        wire.send(data)
        said = await wire.rest()
    assert said[-1].kind == "E"
    assert said[-1].fields["S"] == "FATAL"
    last = (await recorded(replicator, grant))[-1]
    assert isinstance(last, SessionEnd)
    assert last.reason == "upstream"


async def test_terminate_in_a_stream(replicator: Proxy, observer: Watcher) -> None:
    """As pg_receivewal's end: no goodbye from PostgreSQL, and none is made up."""
    grant = new_grant_id()
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.token(id=grant, profile=PROFILE), *PHYSICAL)
        await stream(wire, observer)
        wire.send(TERMINATE)
        assert not [one for one in await wire.rest() if one.kind == "E"]
    last = (await recorded(replicator, grant))[-1]
    assert isinstance(last, SessionEnd)
    assert last.reason == "closed"


# The grant's end.


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a walsender can be doing."""

    name: str
    begin: Callable[[Wire, Watcher], Awaitable[None]]
    parameters: tuple[tuple[str, str], ...] = PHYSICAL
    outcome: Outcome = "rolled back"


async def _idle(wire: Wire, _: Watcher) -> None:
    await wire.run("IDENTIFY_SYSTEM")


async def _unread_backup(wire: Wire, _: Watcher) -> None:
    wire.send(query("BASE_BACKUP (CHECKPOINT 'fast')"))


async def _decode(wire: Wire, observer: Watcher) -> None:
    await wire.run(CREATE.replace("slot LOGICAL", "slot TEMPORARY LOGICAL"))
    await observer.execute("INSERT INTO work SELECT generate_series(1, 100000)")
    wire.send(query("START_REPLICATION SLOT slot LOGICAL 0/0"))


async def _waiting_slot(wire: Wire, observer: Watcher) -> None:
    await observer.execute("BEGIN; INSERT INTO work VALUES (1)")  # A slot begins when all that runs now has ended.
    wire.send(query(CREATE))


CASES = (
    Case(name="idle", begin=_idle, outcome="nothing open"),
    Case(name="streaming WAL", begin=stream),
    Case(name="decoding to a client that does not read", begin=_decode, parameters=LOGICAL),
    Case(name="BASE_BACKUP to a client that does not read", begin=_unread_backup),
    Case(name="making a slot", begin=_waiting_slot, parameters=LOGICAL, outcome="unknown"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_grant_ends(case: Case, replicator: Proxy, observer: Watcher) -> None:
    """The walsender is gone within a second, no slot is left, the client is told, and the record is whole."""
    grant, end = new_grant_id(), time.time() + LEAD_S
    async with await Wire.tls(replicator.port, replicator.ca.client_context()) as wire:
        await wire.log_in(replicator.signer.token(make_grant(id=grant, profile=PROFILE), exp=end), *case.parameters)
        await case.begin(wire, observer)
        kind = await observer.fetchval("SELECT backend_type FROM pg_stat_activity WHERE pid = $1", wire.pid)
        assert kind == "walsender"

        async def gone() -> bool:
            await observer.execute("SELECT pg_stat_clear_snapshot()")  # In a transaction the view would not change.
            return not await observer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", wire.pid)

        await eventually(gone, within=end - time.time() + WITHIN_S)
        assert time.time() >= end
        told = last_of(await wire.rest())
    assert told["C"] == "57P01"
    assert "access to orders has ended: the grant has expired" in told["M"]
    assert await observer.fetchval("SELECT count(*) FROM pg_replication_slots") == 0
    last = (await recorded(replicator, grant))[-1]
    assert isinstance(last, SessionEnd)
    assert (last.reason, last.outcome) == ("expired", case.outcome)
    assert last.gone_at is not None
    assert 0 < last.gone_at - last.decided_at < WITHIN_S * 1e9


def last_of(said: list[Message]) -> dict[str, str]:
    """The fields of what was said last."""
    assert said, "nothing was said to the client"
    return said[-1].fields
