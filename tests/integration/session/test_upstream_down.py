"""PostgreSQL cannot be reached, or goes away: the client is told so in words, and the proxy recovers by itself."""

import asyncio
import os
import signal

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.waiting import eventually
from tests.harness.wire import Message, Refused, Wire, message, query

TOLD_S = 3.0
UNREACHABLE = "the database cannot be reached through this proxy"


async def session(proxy: Proxy, grant: str = "") -> Wire:
    """A session."""
    wire = await Wire.tls(proxy.port, proxy.ca.client_context())
    try:
        await wire.log_in(proxy.token(id=grant or new_grant_id()))
    except BaseException:
        wire.cut()
        raise
    return wire


async def refusal(proxy: Proxy) -> dict[str, str]:
    """What a login is told that fails."""
    with pytest.raises(Refused) as caught:
        await session(proxy)
    return caught.value.fields


async def reason(proxy: Proxy, grant: str) -> SessionEnd:
    """The last record of the session."""
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    return last


def told(said: list[Message]) -> tuple[str, str]:
    """Severity and SQLSTATE of the last word."""
    return said[-1].fields["V"], said[-1].fields["C"]


async def test_server_goes_and_comes(own_postgres: Cluster, make_proxy: MakeProxy) -> None:
    """Shut down, its own FATAL arrives; while it is down logins get 08006 and /readyz says why; then all is well."""
    proxy, grant = make_proxy(own_postgres, options={"stop_timeout_s": 0.5}), new_grant_id()
    async with await session(proxy, grant) as wire:
        own_postgres.stop()
        assert told(await wire.rest()) == ("FATAL", "57P01")
    assert (await reason(proxy, grant)).reason == "upstream"
    fields = await refusal(proxy)
    assert (fields["V"], fields["C"], fields["M"]) == ("FATAL", "08006", UNREACHABLE)
    assert "Your token is not at fault." in fields["H"]
    assert str(own_postgres.port) not in str(fields)
    assert await eventually(lambda: proxy.ops("/readyz")[0] == 503)
    assert proxy.ops("/readyz")[1] == "target orders: no keeper\n"
    own_postgres.start()
    await eventually(lambda: proxy.ops("/readyz") == (200, "ok\n"))
    async with await session(proxy) as wire:
        assert await wire.value("SELECT 1") == "1"


async def test_proxy_starts_before_the_server(own_postgres: Cluster, make_proxy: MakeProxy) -> None:
    """PostgreSQL need not be up when the proxy starts."""
    own_postgres.stop()
    proxy = make_proxy(own_postgres)
    assert (await refusal(proxy))["C"] == "08006"
    own_postgres.start()
    await eventually(lambda: proxy.ops("/readyz") == (200, "ok\n"))
    async with await session(proxy) as wire:
        assert await wire.value("SELECT 1") == "1"


async def test_server_crashes(own_postgres: Cluster, make_proxy: MakeProxy) -> None:
    """SIGKILL to all of it: each client is told at once, or at least let go where that is in the middle of a row.

    It does not wait until the keeper has given up on a server that is away: it may have another one to go to.
    """
    proxy, grants = make_proxy(own_postgres), [new_grant_id() for _ in range(3)]
    wires = [await session(proxy, grant) for grant in grants]
    async with wires[0] as idle, wires[1] as busy, wires[2] as streaming:
        busy.send(query("SELECT pg_sleep(60)"))
        streaming.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 1000000)"))
        await streaming.until("D")
        own_postgres.kill()
        async with asyncio.timeout(TOLD_S):
            await streaming.bytes_left()
            for wire in (idle, busy):
                # 57P01: a backend that noticed its postmaster's death before its own.
                assert told(await wire.rest()) in [("FATAL", "08006"), ("FATAL", "57P01")]
    for grant in grants:
        end = await reason(proxy, grant)
        assert end.reason == "upstream"
        assert end.gone_at is None


async def test_backend_is_killed(own_postgres: Cluster, make_proxy: MakeProxy) -> None:
    """One backend dies by SIGKILL without a word: the proxy says it. What PostgreSQL tells the others arrives too."""
    proxy = make_proxy(own_postgres)
    async with await session(proxy) as victim, await session(proxy) as bystander:
        os.kill(victim.pid, signal.SIGKILL)
        last = (await victim.rest())[-1].fields
        assert (last["V"], last["C"], last["M"]) == ("FATAL", "08006", UNREACHABLE)
        assert last["D"] == "The connection to the database was lost."
        warned, closed = await bystander.rest()
        assert (warned.kind, warned.fields["C"]) == ("N", "57P02")
        assert told([closed]) == ("FATAL", "08006")

    async def recovered() -> bool:
        try:
            async with await session(proxy) as wire:
                return await wire.value("SELECT 1") == "1"
        except Refused as refused:
            assert refused.fields["C"] in ("08006", "57P03")  # noqa: PT017 anything else would be wrong
            return False

    await eventually(recovered, within=20)


async def test_terminated_by_the_dba(proxy: Proxy, watcher: Watcher) -> None:
    """PostgreSQL's own FATAL arrives as it is, once, and the record says that upstream ended it."""
    grant = new_grant_id()
    async with await session(proxy, grant) as wire:
        wire.send(query("SELECT pg_sleep(60)"))

        async def running() -> bool:
            return bool(
                await watcher.fetch("SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", wire.pid)
            )

        await eventually(running)
        await watcher.execute("SELECT pg_terminate_backend($1)", wire.pid)
        said = await wire.rest()
    assert [one.kind for one in said] == ["T", "E"]
    assert said[1].fields["M"] == "terminating connection due to administrator command"
    end = await reason(proxy, grant)
    assert (end.reason, end.outcome) == ("upstream", "rolled back")


async def test_terminated_by_the_dba_in_a_copy(proxy: Proxy, watcher: Watcher) -> None:
    """A client that goes on sending gets PostgreSQL's FATAL all the same. PostgreSQL alone loses it to a reset."""
    async with await session(proxy) as wire:
        await wire.run("CREATE TEMP TABLE taken (line text)")
        wire.send(query("COPY taken FROM STDIN"))
        await wire.until("G")
        wire.send(message("d", b"a line\n"))
        await watcher.execute("SELECT pg_terminate_backend($1)", wire.pid)
        for _ in range(100):
            wire.send(message("d", b"a line\n" * 1_000))
        said = await wire.rest()
    assert said[-1].fields["M"] == "terminating connection due to administrator command"
    assert told(said) == ("FATAL", "57P01")


@pytest.mark.parametrize(
    "setting", ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
)
async def test_timeouts_of_postgresql(proxy: Proxy, setting: str) -> None:
    """They are PostgreSQL's to enforce; its words come through."""
    async with await session(proxy) as wire:
        await wire.run(f"SET {setting} = 100")
        if setting == "statement_timeout":
            said = await wire.run("SELECT pg_sleep(60)")
            assert next(one for one in said if one.kind == "E").fields["C"] == "57014"
            return
        await wire.run("BEGIN" if "transaction" in setting else "SELECT 1")
        assert told(await wire.rest()) == ("FATAL", "25P03" if "transaction" in setting else "57P05")


async def test_server_is_full(own_postgres: Cluster, make_proxy: MakeProxy) -> None:
    """PostgreSQL's own 53300 arrives; the keeper's connection is there already, so stops still work."""
    own_postgres.configure(max_connections="6", superuser_reserved_connections="2", max_wal_senders="0")
    own_postgres.restart()
    proxy = make_proxy(own_postgres)
    async with await session(proxy) as one, await session(proxy), await session(proxy):
        assert (await refusal(proxy))["C"] == "53300"
        assert await one.value("SELECT 1") == "1"
    await eventually(lambda: [end.reason for end in proxy.ended()] == ["closed"] * 3)


async def test_wrong_stored_password(postgres: Cluster, make_proxy: MakeProxy) -> None:
    """The proxy's own credential is at fault: the client's token is not blamed, and nothing of it is shown."""
    proxy = make_proxy(postgres)
    (proxy.folder / "curfew_app.password").write_text("not the password\n")
    fields = await refusal(proxy)
    assert (fields["C"], fields["M"]) == ("08006", UNREACHABLE)
    assert "curfew_app" not in str(fields)
    await eventually(lambda: "the target refused the proxy's own login" in proxy.log())
    assert "not the password" not in proxy.log()
