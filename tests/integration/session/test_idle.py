"""Idle sessions: ended after the profile's timeout, and nobody who works is taken for idle."""

import asyncio
import time

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.roles import APP
from tests.harness.waiting import never
from tests.harness.wire import Wire, message, query

TIMEOUT_S = 1.2
BEGUN = {
    "nothing": (b"", "nothing open", "I"),
    "a transaction": (query("BEGIN; CREATE TABLE made (x int)"), "rolled back", "Z"),
    "COPY in": (query("CREATE TEMP TABLE t (x int); COPY t FROM STDIN"), "rolled back", "G"),
}


async def idle(proxy: Proxy, what: str) -> None:
    """A session that does `what` and then nothing ends in time, and says why."""
    grant = new_grant_id()
    asked, outcome, answer = BEGUN[what]
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        if asked:
            wire.send(asked)
            await wire.until(answer)
        if answer == "G":
            wire.send(message("d", b"1\n"))
        begun = time.monotonic()
        told = (await wire.rest())[-1].fields
        assert TIMEOUT_S - 0.1 < time.monotonic() - begun < TIMEOUT_S + 1.5, what
    assert (told["V"], told["C"]) == ("FATAL", "57P05")
    assert "the session was idle for too long" in told["M"]
    assert told["H"] == "Connect again: your grant is still valid."
    last = decode((await proxy.session_of(grant))[-1])
    assert isinstance(last, SessionEnd)
    assert (last.reason, last.by, last.outcome) == ("idle", None, outcome)


async def working(proxy: Proxy) -> None:
    """Silent queries that last longer, statements now and then, and data now and then."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token())
        await wire.run(f"SELECT pg_sleep({TIMEOUT_S * 2})")
        await wire.run("CREATE TEMP TABLE t (x int)")
        wire.send(query("COPY t FROM STDIN"))
        await wire.until("G")
        for _ in range(5):
            wire.send(message("d", b"1\n"))
            await never(lambda: wire.closing, during=TIMEOUT_S * 0.25)
        wire.send(message("c"))
        await wire.until("Z")
        assert await wire.value("SELECT count(*) FROM t") == "5"


async def test_idle(make_proxy: MakeProxy, postgres: Cluster) -> None:
    """Whatever was begun before; at its side somebody works on."""
    password = {"env": "APP_PASSWORD"}
    access = {"app": {"user": APP.user, "password": password, "idle_timeout_s": TIMEOUT_S}}
    proxy = make_proxy(postgres, target={"access": access}, environment={"APP_PASSWORD": APP.password})
    await asyncio.gather(working(proxy), *(idle(proxy, what) for what in BEGUN))
