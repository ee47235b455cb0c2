"""How a client leaves: by Terminate, by closing, by half of it, or by vanishing; and what is left of it."""

import asyncio
import socket
import struct
import time

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Wire, query
from tests.integration.session.losing import EVERY_S

GONE_S = 2.0
SLOW_UPDATE = "UPDATE work SET n = -n WHERE pg_sleep(0.02) IS NOT NULL"


async def last_record(proxy: Proxy, grant: str) -> SessionEnd:
    """The session's end."""
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    return last


async def gone(watcher: Watcher, pid: int, *, within: float = GONE_S) -> None:
    """Wait until the backend is gone."""

    async def is_gone() -> bool:
        return not await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1", pid)

    await eventually(is_gone, within=within)


async def run_slowly(wire: Wire, watcher: Watcher) -> None:
    """Make a table and begin an UPDATE of 20 s on it."""
    await wire.run("CREATE TABLE work AS SELECT generate_series(1, 1000) AS n")
    wire.send(query(SLOW_UPDATE))

    async def runs() -> bool:
        return bool(await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", wire.pid))

    await eventually(runs)


@pytest.mark.parametrize("way", ["Terminate", "close", "cut", "reset"])
async def test_idle(proxy: Proxy, watcher: Watcher, way: str) -> None:
    """Each is an orderly end, and PostgreSQL has let go at once."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        leave(wire, way)
        await gone(watcher, wire.pid)
    end = await last_record(proxy, grant)
    assert (end.reason, end.outcome) == ("closed", "nothing open")


async def test_no_word_about_a_missing_goodbye(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Most clients close without TLS's close_notify: that is nothing to warn of, and no fault."""
    proxy, grant = make_proxy(postgres), new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        leave(wire, "cut")
    assert (await last_record(proxy, grant)).reason == "closed"
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0)
    assert not [line for line in proxy.log().splitlines() if '"level": "info"' not in line]


def leave(wire: Wire, way: str) -> None:
    """Leave in one of four ways."""
    if way == "Terminate":
        wire.send(TERMINATE)
    elif way == "close":
        wire.close()
    else:
        if way == "reset":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.cut()


@pytest.mark.parametrize("way", ["close", "cut", "reset"])
async def test_vanishes_with_a_running_statement(
    make_proxy: MakeProxy, postgres: Cluster, database: str, watcher: Watcher, way: str
) -> None:
    """PostgreSQL alone would run it to its end, and commit it; here it is stopped, verified."""
    proxy, grant = make_proxy(postgres, database=database), new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        await run_slowly(wire, watcher)
        leave(wire, way)
        await gone(watcher, wire.pid)
    end = await last_record(proxy, grant)
    assert (end.reason, end.outcome) == ("client_lost", "rolled back")
    assert end.gone_at is not None
    assert (await postgres.sql("SELECT count(*) AS n FROM work WHERE n < 0", database=database))[0]["n"] == 0


async def test_terminate_behind_a_statement(proxy: Proxy, watcher: Watcher) -> None:
    """PostgreSQL does what came before it first; so the statement is executed, and recorded with its end."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(query("SELECT pg_sleep(0.3)") + TERMINATE)
        assert [one.kind for one in await wire.rest()] == ["T", "D", "C", "Z"]
        await gone(watcher, wire.pid)
    end = await last_record(proxy, grant)
    assert (end.reason, end.outcome, end.statements) == ("closed", "nothing open", 1)


async def test_half_close(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """`printf ... | nc -N`: who closes the sending half behind a query still gets its rows (without TLS, as in PG)."""
    proxy, grant = make_proxy(postgres, options={"plaintext": "loopback"}), new_grant_id()
    async with await Wire.plain(proxy.port) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(query("SELECT pg_sleep(0.2), repeat('x', 1000) FROM generate_series(1, 3)"))
        wire.end_sending()
        assert [one.kind for one in await wire.rest()] == ["T", "D", "D", "D", "C", "Z"]
    assert (await last_record(proxy, grant)).reason == "closed"


async def test_database_can_be_dropped_at_once(proxy: Proxy, postgres: Cluster) -> None:
    """A session leaves nothing behind that holds its database."""
    roles.create_database(postgres, "short_lived")
    connection = await proxy.connect(database="orders/short_lived")
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    left = time.monotonic()

    async def dropped() -> bool:
        try:
            await postgres.sql("DROP DATABASE short_lived")
        except Exception as error:
            if "being accessed by other users" not in str(error):
                raise
            return False
        return True

    await eventually(dropped)
    assert time.monotonic() - left < 1


async def test_temporary_objects_are_gone(proxy: Proxy, database: str) -> None:
    """One upstream connection for one session: nothing of it is seen by the next one."""
    first = await proxy.connect(database=f"orders/{database}")
    await first.execute("CREATE TEMP TABLE mine (); SET application_name = 'mine'; SELECT pg_advisory_lock(99)")
    await first.close()
    second = await proxy.connect(database=f"orders/{database}")
    assert await second.fetchval("SELECT to_regclass('mine')") is None
    assert await second.fetchval("SHOW application_name") != "mine"
    assert await second.fetchval("SELECT pg_try_advisory_lock(99)")
    await second.close()


async def test_many_sessions_leave_nothing(make_proxy: MakeProxy, postgres: Cluster, watcher: Watcher) -> None:
    """After 200 sessions that ended in every way there are no descriptors, no sessions and no backends left."""
    proxy = make_proxy(postgres)
    context = proxy.ca.client_context()
    mine = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'curfew_app'"
    before_backends = await watcher.fetchval(mine)

    async def one(number: int) -> None:
        async with await Wire.tls(proxy.port, context) as wire:
            await wire.log_in(proxy.token())
            if number % 2:
                wire.send(query("SELECT pg_sleep(60)"))
            leave(wire, ("Terminate", "close", "cut", "reset")[number % 4])

    await one(0)
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0)
    before = proxy.descriptors()
    for _ in range(10):
        await asyncio.gather(*(one(number) for number in range(20)))
    await eventually(lambda: proxy.metrics()["curfew_sessions_live"] == 0)
    await eventually(lambda: proxy.descriptors() <= before)

    async def none_left() -> bool:
        return bool(await watcher.fetchval(mine) <= before_backends)

    await eventually(none_left)
    assert len(proxy.ended()) == 201


@pytest.mark.parametrize("lost", ["client", "server"])
async def test_a_peer_that_has_vanished(make_proxy: MakeProxy, postgres: Cluster, watcher: Watcher, lost: str) -> None:
    """A session has either of its peers looked after: where one is nowhere any more, what it runs is stopped."""
    grant, proxy = new_grant_id(), make_proxy(postgres, launcher="tests.integration.session.losing")
    (proxy.state / "lost").write_text(str(proxy.port if lost == "client" else postgres.port))
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(query("SELECT pg_sleep(60)"))
        await gone(watcher, wire.pid, within=GONE_S + EVERY_S)
    assert (await last_record(proxy, grant)).reason == ("client_lost" if lost == "client" else "upstream")
