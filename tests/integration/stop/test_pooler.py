"""A pooler in front of PostgreSQL: the right backend is known, ended and let be. With the real PgBouncer."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.contract.record import SessionEnd, SessionStart, decode
from proxy.pooled import mark_of
from proxy.stop import HandedOnError, Keeper
from tests.conftest import MakeProxy, Watcher
from tests.harness import pooler
from tests.harness.certs import Authority
from tests.harness.pooler import Pooler
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.roles import APP, KEEPER
from tests.harness.waiting import eventually
from tests.harness.wire import Refused
from tests.integration.stop.conftest import Victims
from tests.integration.upstream.targets import Raw

PROGRAM = pooler.find()
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer here")


@pytest.fixture(scope="module")
def sessions(postgres: Cluster, ca: Authority) -> Iterator[Pooler]:
    """A pool of sessions."""
    assert PROGRAM is not None
    with pooler.running(PROGRAM, postgres, ca, pool_mode="session") as started:
        yield started


@pytest.fixture(scope="module")
def pooled(
    sessions: Pooler, postgres: Cluster, ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy in front of it, whose keeper goes its own way."""
    folder = tmp_path_factory.mktemp("pooled")
    with Proxy(
        cluster=postgres, ca=ca, folder=folder, target=sessions.target(keeper=keeper_at(folder, postgres))
    ) as made:
        yield made


def keeper_at(folder: Path, cluster: Cluster | None = None) -> dict[str, Any]:
    """The keeper's options, with a way of its own to `cluster`."""
    login = {"user": KEEPER.user, "password": {"file": str(folder / f"{KEEPER.user}.password")}}
    return login if cluster is None else {**login, "host": "localhost", "port": cluster.port}


async def via(port: int, ca: Authority, database: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
    """An application's own connection through the pooler, past the proxy."""
    tls = ca.client_context()
    return await asyncpg.connect(
        host="localhost", port=port, user=APP.user, password=APP.password, database=database, ssl=tls
    )


async def alive(watcher: Watcher, pid: int) -> bool:
    """Whether the backend is there."""
    return bool(await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid))


def started(proxy: Proxy, grant: str) -> SessionStart:
    """The first record of the session on this grant."""
    return next(one for one in proxy.records() if isinstance(one, SessionStart) and one.grant == grant)


async def said(proxy: Proxy, event: str, count: int) -> list[str]:
    """The errors of these events in the proxy's log, once there are so many: it may come later than the answer."""

    def found() -> list[str]:
        lines = [json.loads(line) for line in proxy.log().splitlines() if line.startswith("{")]
        return [line["error"] for line in lines if line["event"] == event]

    await eventually(lambda: len(found()) >= count)
    return found()


@needs_pgbouncer
async def test_who_the_backend_is(pooled: Proxy, watcher: Watcher) -> None:
    """The client has the pooler's pid, the record the backend's own; person and grant are there to be read."""
    grant = new_grant_id()
    async with pooled.wire(pooled.token(id=grant), client_encoding="LATIN1", DateStyle="German") as wire:
        pid = int(await wire.value("SELECT pg_backend_pid()") or 0)
        assert wire.pid != pid
        record = started(pooled, grant)
        start = await watcher.fetchval("SELECT backend_start FROM pg_stat_activity WHERE pid = $1", pid)
        assert (record.backend_pid, record.backend_start) == (pid, start.isoformat(timespec="microseconds"))
        known = "SELECT current_setting('curfew.person') || ' ' || current_setting('curfew.grant')"
        assert await wire.value(known) == f"dba1 {grant}"
        assert await wire.value("SELECT count(*) FROM pg_prepared_statements") == "0"


@needs_pgbouncer
async def test_nothing_of_ours_can_be_bound(pooled: Proxy) -> None:
    """The unnamed statement of our question is gone: nobody runs it again unseen."""
    async with pooled.wire() as wire:
        bind = b"B" + (12).to_bytes(4) + b"\0\0" + b"\0\0" * 3
        execute = b"E" + (9).to_bytes(4) + b"\0" + b"\0\0\0\0"
        wire.send(bind + execute + b"S\0\0\0\4")
        error = next(one for one in await wire.until("Z") if one.kind == "E")
        assert error.fields["C"] == "26000"


@needs_pgbouncer
async def test_a_stop_ends_the_right_one(pooled: Proxy, sessions: Pooler, ca: Authority, watcher: Watcher) -> None:
    """An UPDATE's worth of work in a pooled backend is ended, proven; a neighbour in the pool goes on."""
    neighbour = await via(sessions.port, ca)
    grant = new_grant_id()
    connection = await pooled.connect(pooled.token(id=grant, lasts_s=2))
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetch("SELECT pg_sleep(60)")
    end = decode((await pooled.session_of(grant))[-1])
    assert isinstance(end, SessionEnd)
    assert (end.reason, end.gone_at is not None) == ("expired", True)
    assert not await alive(watcher, pid)
    assert await neighbour.fetchval("SELECT 1") == 1
    await neighbour.close()


@needs_pgbouncer
async def test_a_cancel_goes_by_way_of_the_pooler(pooled: Proxy) -> None:
    """The key that the client has is ours, and the one that we have is the pooler's."""
    connection = await pooled.connect()
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.5)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


@needs_pgbouncer
async def test_a_keeper_behind_the_pooler(
    sessions: Pooler, postgres: Cluster, make_proxy: MakeProxy, watcher: Watcher
) -> None:
    """Without a way of its own it goes through the pooler too, and does its work."""
    proxy, grant = make_proxy(postgres, target=sessions.target()), new_grant_id()
    assert proxy.ops("/readyz") == (200, "ok\n")
    connection = await proxy.connect(proxy.token(id=grant, lasts_s=1.5))
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    end = decode((await proxy.session_of(grant))[-1])
    assert isinstance(end, SessionEnd)
    assert end.gone_at is not None
    assert not await alive(watcher, pid)
    connection.terminate()


@needs_pgbouncer
@pytest.mark.parametrize("ignored", [None, "curfew.person, curfew.grant"], ids=["as it comes", "told to let it pass"])
async def test_the_option_is_missing(
    postgres: Cluster, ca: Authority, make_proxy: MakeProxy, tmp_path: Path, ignored: str | None
) -> None:
    """The pooler knows no settings of ours, and its pid is an invention: no session, and the log names the option."""
    assert PROGRAM is not None
    settings = {} if ignored is None else {"ignore_startup_parameters": ignored}
    with pooler.running(PROGRAM, postgres, ca, pool_mode="session", **settings) as between:
        target = between.target(pooler="none", keeper=keeper_at(tmp_path / "proxy0", postgres))
        proxy = make_proxy(postgres, target=target)
        with pytest.raises(Refused) as caught:
            async with proxy.wire():
                pass
    assert caught.value.fields["C"] == "08006"
    (why,) = await said(proxy, "upstream failed" if ignored is None else "no keeper, no session", 1)
    assert 'targets.orders.pooler = "session"' in why


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pool_of_anything_else(
    postgres: Cluster, ca: Authority, make_proxy: MakeProxy, tmp_path: Path, mode: str
) -> None:
    """Refused at the first session already: a second login gets the very same backend."""
    assert PROGRAM is not None
    with pooler.running(PROGRAM, postgres, ca, pool_mode=mode) as shared:
        proxy = make_proxy(postgres, target=shared.target(keeper=keeper_at(tmp_path / "proxy0", postgres)))
        for _ in range(2):
            with pytest.raises(Refused):
                async with proxy.wire():
                    pass
        first, second = await said(proxy, "upstream failed", 2)
        assert "pool_mode = session" in first
        assert "locks that somebody else took" in second


@needs_pgbouncer
async def test_backends_that_are_not_reset(
    postgres: Cluster, ca: Authority, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    """A pool of sessions that hands on what one left: the mark of the session before is found, and that is refused."""
    assert PROGRAM is not None
    with pooler.running(PROGRAM, postgres, ca, pool_mode="session", server_reset_query="") as dirty:
        proxy = make_proxy(postgres, target=dirty.target(keeper=keeper_at(tmp_path / "proxy0", postgres)))
        async with proxy.wire():
            pass

        async def refused() -> bool:
            try:
                async with proxy.wire():
                    return False
            except Refused:
                return True

        await eventually(refused)
        assert "server_reset_query" in (await said(proxy, "upstream failed", 1))[0]


@needs_pgbouncer
async def test_after_a_crash(sessions: Pooler, ca: Authority, tmp_path: Path, watcher: Watcher, database: str) -> None:
    """What ran is ended by the reaper; what was idle has been handed on, with its pid and start, and is let be."""
    folder = tmp_path / "proxy0"
    with ExitStack() as stack:
        target = sessions.target(keeper=keeper_at(folder, sessions.cluster), database=database)
        proxy = stack.enter_context(Proxy(cluster=sessions.cluster, ca=ca, folder=folder, target=target))
        idle, busy = [await proxy.connect(proxy.token(id=one)) for one in ("grt_idle", "grt_busy")]
        pids = {one: await one.fetchval("SELECT pg_backend_pid()") for one in (idle, busy)}
        running = asyncio.get_running_loop().create_task(busy.execute("SELECT pg_sleep(60)"))
        sleeping = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
        await eventually(lambda: watcher.fetchval(sleeping, pids[busy]))
        assert proxy.process is not None
        await asyncio.to_thread(proxy.process.kill)
        await asyncio.gather(running, return_exceptions=True)
        reset = "SELECT query = 'DISCARD ALL' AND state = 'idle' FROM pg_stat_activity WHERE pid = $1"
        await eventually(lambda: watcher.fetchval(reset, pids[idle]))
        heir = await via(sessions.port, ca, database)
        assert await heir.fetchval("SELECT pg_backend_pid()") == pids[idle]
        assert await alive(watcher, pids[busy])
        proxy.start()
        ends = {grant: decode((await proxy.session_of(grant))[-1]) for grant in ("grt_idle", "grt_busy")}
        assert not await alive(watcher, pids[busy])
        assert await heir.fetchval("SELECT 1") == 1
        gone = {grant: isinstance(end, SessionEnd) and end.gone_at is not None for grant, end in ends.items()}
        assert gone == {"grt_idle": False, "grt_busy": True}
        await heir.close()


# The keeper alone


async def test_a_mark(keeper: Keeper, new_victim: Victims) -> None:
    """A backend with it is ended; without it only while the session's own connection is known to be open."""
    marked, held, other = [await new_victim() for _ in range(3)]
    mark = mark_of("ses_1")
    await marked.run(f"SELECT pg_advisory_lock({mark})")
    starts = {one.pid: await keeper.backend_start(one.pid) for one in (marked, held, other)}

    async def stop(victim: Raw, **how: Any) -> bool:  # noqa: ANN401 the keeper's own
        return (await keeper.stop(victim.pid, starts[victim.pid], mark=mark, **how)).seen

    with pytest.raises(HandedOnError, match="handed backend"):
        await stop(other)
    assert await other.value("SELECT 1") == "1"
    assert await stop(marked)
    assert await stop(held, held=lambda: True)
    assert not await stop(marked)
