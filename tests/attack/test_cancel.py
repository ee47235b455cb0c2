"""CancelRequest: taken in clear and in TLS, answered with nothing, and of no use without the session's own secret."""

import asyncio
import time

import pytest

from proxy.contract.record import Cancel, decode
from tests.conftest import MakeProxy, Watcher
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.relay import Relay, latency
from tests.harness.waiting import eventually
from tests.harness.wire import PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, Message, Wire, cancel_request, query

SLEEP = "SELECT pg_sleep(30)"
ON_THE_WAY_S = 0.2
WHO = (("user", "dba1"), ("database", "orders"))


async def begin_sleep(wire: Wire, watcher: Watcher) -> None:
    """Have the session's backend run SLEEP, and wait until it does."""
    wire.send(query(SLEEP))

    async def sleeps() -> bool:
        waits: str | None = await watcher.fetchval("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", wire.pid)
        return waits == "PgSleep"

    await eventually(sleeps)


def sqlstate(said: list[Message]) -> str:
    """Of the one error."""
    return next(one for one in said if one.kind == "E").fields["C"]


async def deliver(proxy: Proxy, pid: int, secret: bytes, way: str) -> bytes:
    """Send a CancelRequest in clear, behind SSLRequest or by direct TLS; returns what is said, until it is closed."""
    context = proxy.ca.client_context()
    context.set_alpn_protocols(["postgresql"])
    first = SSL_REQUEST if way == "TLS" else b""
    async with await (Wire.plain(proxy.port) if way == "clear" else Wire.tls(proxy.port, context, first)) as wire:
        wire.send(cancel_request(pid, secret))
        return await wire.bytes_left()


@pytest.mark.parametrize("way", ["clear", "TLS", "direct TLS"])
@pytest.mark.parametrize("version", [PROTOCOL_3_0, PROTOCOL_3_2], ids=["3.0", "3.2"])
async def test_cancel(proxy: Proxy, watcher: Watcher, way: str, version: int) -> None:
    """The statement ends with PostgreSQL's own error, the session goes on, and the record names the statement."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant), *WHO, version=version)
        await wire.run("SELECT 1")
        await begin_sleep(wire, watcher)
        assert await deliver(proxy, wire.pid, wire.secret, way) == b""
        assert sqlstate(await wire.until("Z")) == "57014"
        assert await wire.value("SELECT 2") == "2"
    records = [decode(line) for line in await proxy.session_of(grant)]
    for form in (wire.secret.hex(), str(int.from_bytes(wire.secret)), repr(wire.secret)):
        assert form not in proxy.log()
        assert form.encode() not in b"".join(proxy.lines())
    cancels = [one for one in records if isinstance(one, Cancel)]
    assert [(one.forwarded, one.statement, one.address) for one in cancels] == [(True, 2, "127.0.0.1")]


async def test_the_secret_is_the_proxys_own(proxy: Proxy, watcher: Watcher) -> None:
    """PostgreSQL itself does not know it, so nothing that a client has been told works past the proxy."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        assert await wire.value("SELECT pg_backend_pid()") == str(wire.pid)
        await begin_sleep(wire, watcher)
        async with await Wire.plain(proxy.cluster.port) as past:
            past.send(cancel_request(wire.pid, wire.secret))
            assert await past.bytes_left() == b""
        with pytest.raises(AssertionError, match="no answer"):
            await wire.read(within=0.3)


@pytest.mark.parametrize("wrong", ["secret", "length", "pid", "another session's"])
async def test_wrong_key(proxy: Proxy, watcher: Watcher, wrong: str) -> None:
    """Nothing happens to anybody, nothing is said, and the session's record does not mention it."""
    grant, before = new_grant_id(), proxy.metrics()["curfew_cancel_requests_total"]
    context = proxy.ca.client_context()
    async with await Wire.tls(proxy.port, context) as wire, await Wire.tls(proxy.port, context) as other:
        await wire.log_in(proxy.token(id=grant))
        await other.log_in(proxy.token())
        await begin_sleep(wire, watcher)
        pid, secret = {
            "secret": (wire.pid, bytes(byte ^ 1 for byte in wire.secret)),
            "length": (wire.pid, wire.secret * 2),
            "pid": (wire.pid ^ 1, wire.secret),
            "another session's": (wire.pid, other.secret),
        }[wrong]
        assert await deliver(proxy, pid, secret, "clear") == b""
        assert proxy.metrics()["curfew_cancel_requests_total"] == before + 1
        with pytest.raises(AssertionError, match="no answer"):
            await wire.read(within=0.3)
    assert not [line for line in await proxy.session_of(grant) if isinstance(decode(line), Cancel)]


async def test_late_cancel(proxy: Proxy) -> None:
    """With nothing running it is not forwarded, so that it cannot hit the next statement."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        for _ in range(20):
            await wire.run("SELECT 1")
            await deliver(proxy, wire.pid, wire.secret, "clear")
            assert await wire.value("SELECT 1") == "1"
    records = [decode(line) for line in await proxy.session_of(grant)]
    assert [one.forwarded for one in records if isinstance(one, Cancel)] == [False] * 20


@pytest.mark.parametrize("way", ["clear", "TLS", "direct TLS"])
async def test_it_is_answered_once_postgresql_has_taken_it(make_proxy: MakeProxy, postgres: Cluster, way: str) -> None:
    """Not before: a client that has seen the connection closed asks for the next statement, and that is not hit."""
    async with Relay(postgres.port, client=[latency(ON_THE_WAY_S)]) as slow:
        proxy = await asyncio.to_thread(make_proxy, postgres, target={"port": slow.port})
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
            await wire.log_in(proxy.token())
            wire.send(query(SLEEP))
            await eventually(lambda: any(b"pg_sleep" in line for line in proxy.lines()))
            began = time.monotonic()
            assert await deliver(proxy, wire.pid, wire.secret, way) == b""
            assert time.monotonic() - began >= ON_THE_WAY_S
            assert sqlstate(await wire.until("Z")) == "57014"


async def test_cancels_that_come_too_late(proxy: Proxy) -> None:
    """A hundred, each in a race with the end of its statement: once one is answered, no later statement is hit.

    As PgBouncer's test_cancel_race has it; there, one of them hit another client's query (its issue 717).
    """
    context = proxy.ca.client_context()
    async with await Wire.tls(proxy.port, context) as wire, await Wire.tls(proxy.port, context) as other:
        await asyncio.gather(wire.log_in(proxy.token()), other.log_in(proxy.token()))
        hit = 0
        for number in range(100):
            wire.send(query(f"SELECT count(*) FROM generate_series(1, {number * 200})"))
            said, _, bystander = await asyncio.gather(
                wire.until("Z"), deliver(proxy, wire.pid, wire.secret, "clear"), other.value("SELECT 'untouched'")
            )
            hit += any(one.kind == "E" for one in said)
            assert bystander == "untouched"
            assert await wire.value("SELECT 'later'") == "later"
    assert hit < 100


async def test_key_of_an_ended_session(proxy: Proxy) -> None:
    """It is forgotten with the session."""
    grant = new_grant_id()
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        pid, secret = wire.pid, wire.secret
    await proxy.session_of(grant)
    assert await deliver(proxy, pid, secret, "clear") == b""
    await eventually(lambda: f'"pid": {pid}, "event": "cancel request with an unknown key"' in proxy.log())


async def test_flood_of_cancels(proxy: Proxy, watcher: Watcher) -> None:
    """Hundreds of guesses at once cost PostgreSQL nothing, and a right one among them still arrives."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        await begin_sleep(wire, watcher)
        guesses = [deliver(proxy, wire.pid, number.to_bytes(4), "clear") for number in range(200)]
        answers = await asyncio.gather(*guesses, deliver(proxy, wire.pid, wire.secret, "clear"))
        assert set(answers) == {b""}
        assert sqlstate(await wire.until("Z")) == "57014"
