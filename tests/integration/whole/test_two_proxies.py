"""Two proxies of one control: never more sessions on a grant than it allows, and what one leaves the other ends."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from control.domain.reaping import SILENCE_S
from proxy.contract.directive import HEARTBEAT_S
from tests.conftest import Watcher
from tests.harness.roles import APP
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Refused, Wire, query
from tests.integration.whole.peer import Peer
from tests.integration.whole.stand import Pass, Whole

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
AT_ONCE = 12
BACK_S = 20.0
NEXT_S = 2.0
"""For a busy machine; on a quiet one it takes some 20 ms."""


@pytest.fixture(scope="module")
def peer(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The second proxy, of two workers."""
    with Peer(whole, tmp_path_factory.mktemp("peer"), workers=2) as running:
        yield running


async def attempt(whole: Whole, one: Pass, port: int | None) -> Wire | dict[str, str]:
    """A session, or the error that refused it."""
    try:
        return await whole.log_in(one, port)
    except Refused as error:
        return error.fields


async def gets_in(whole: Whole, one: Pass, port: int | None = None) -> bool:
    """Whether a session is admitted, and leaves."""
    attempted = await attempt(whole, one, port)
    if isinstance(attempted, Wire):
        async with attempted as wire:
            wire.send(TERMINATE)
            await wire.rest()
        return True
    assert attempted["C"] == "53300"
    return False


async def test_of_many_at_once_one_gets_in(whole: Whole, peer: Peer, behind: Watcher) -> None:
    """Through either proxy, in every round; and when it ends, the next one gets in at once."""
    one = await whole.grant(max_sessions=1)
    for _ in range(3):
        ports = [(None, peer.port)[number % 2] for number in range(AT_ONCE)]
        before = await behind.fetchval(BACKENDS, APP.user)
        attempts = await asyncio.gather(*(attempt(whole, one, port) for port in ports))
        inside = [session for session in attempts if isinstance(session, Wire)]
        refused = [error for error in attempts if not isinstance(error, Wire)]
        assert len(inside) == 1
        assert {error["C"] for error in refused} == {"53300"}
        assert {error["D"] for error in refused} == {f"Grant {one.grant} allows 1 at once."}
        async with inside[0] as wire:
            assert await behind.fetchval(BACKENDS, APP.user) == before + 1
            wire.send(TERMINATE)
            await wire.rest()
        await in_at_once(whole, one, peer.port)


async def in_at_once(whole: Whole, one: Pass, port: int | None) -> None:
    """A session is admitted by the proxy behind `port`, soon after another one's end."""

    async def admitted() -> bool:
        return await gets_in(whole, one, port)

    await eventually(admitted, within=NEXT_S)

    async def free() -> bool:
        return await gets_in(whole, one)

    await eventually(free, within=NEXT_S)


async def test_two_of_two_proxies(whole: Whole, peer: Peer) -> None:
    """Each has one; a third is refused by both."""
    one = await whole.grant(max_sessions=2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(await whole.log_in(one))
        await stack.enter_async_context(await whole.log_in(one, peer.port))
        for port in (None, peer.port):
            assert not await gets_in(whole, one, port)


async def test_a_proxy_that_dies_keeps_its_place_until_it_is_back(whole: Whole, peer: Peer) -> None:
    """Its backend might live; when it has ended what it left, the place is free. Control's restart changes nothing."""
    one = await whole.grant(max_sessions=1)
    async with await whole.log_in(one, peer.port):
        await peer.kill()
    assert not await gets_in(whole, one)
    followed = whole.followed
    await whole.kill_control()
    await whole.start_control()
    await eventually(lambda: whole.followed > followed, within=BACK_S)
    assert not await gets_in(whole, one)
    await peer.start()

    async def free() -> bool:
        return await gets_in(whole, one)

    await eventually(free, within=BACK_S)


async def test_without_control_nobody_is_counted_in(whole: Whole, peer: Peer) -> None:
    """Not even where the target runs on; who is in stays in, and a grant without a limit needs no control."""
    limited, free = await whole.grant("archive", max_sessions=2), await whole.grant("archive")
    async with await whole.log_in(limited, peer.port) as wire:
        await whole.kill_control()
        try:
            refused = await attempt(whole, limited, None)
            assert not isinstance(refused, Wire)
            assert (refused["C"], refused["M"]) == ("57P03", "the sessions of this grant cannot be counted now")
            assert limited.grant in refused["D"]
            assert await whole.refusal(free) is None
            await wire.run("SELECT 1")
        finally:
            await whole.start_control()

    async def counted() -> bool:
        return await whole.refusal(limited) is None

    await eventually(counted, within=BACK_S)


async def test_a_drained_proxy_gives_its_places_back(whole: Whole, peer: Peer) -> None:
    """Its people go on elsewhere, while it is away."""
    one = await whole.grant(max_sessions=1)
    wire = await whole.log_in(one, peer.port)
    stopping = asyncio.get_running_loop().create_task(asyncio.to_thread(peer.process.stop))
    async with wire:
        wire.send(TERMINATE)
        await wire.rest()
    await stopping
    assert await gets_in(whole, one)
    await peer.start()


GRANT_S = 23
"""Longer than it takes until a proxy counts as silent."""
REAPED_S = SILENCE_S + 5.0
LATE_S = 5.0
"""How long a backend may outlive its grant where its proxy is gone (DESIGN.md, promise 3)."""


async def in_mid_update(behind: Watcher, wire: Wire, number: int) -> int:
    """Have the session change a row, and go on for minutes before it is done; its backend's pid."""
    table = f"left_{number}"
    await behind.execute(f"CREATE TABLE {table} AS SELECT id, 0 AS n FROM generate_series(1, 2) id")
    await behind.execute(f"ALTER TABLE {table} OWNER TO {APP.user}")
    pid = int(await wire.value("SELECT pg_backend_pid()") or 0)
    wire.send(query(f"UPDATE {table} SET n = CASE id WHEN 1 THEN 1 ELSE length(pg_sleep(300)::text) END"))

    async def writing() -> bool:
        found = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND backend_xid IS NOT NULL AND wait_event = 'PgSleep'"
        return await behind.fetchval(found, pid) is not None

    await eventually(writing)
    return pid


async def gone(behind: Watcher, pid: int, within: float) -> float:
    """When the backend has gone, by the wall clock."""

    async def is_gone() -> bool:
        return await behind.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid) is None

    await eventually(is_gone, within=within, what=f"the end of backend {pid}")
    return time.time()


async def session_on(whole: Whole, one: Pass) -> dict[str, Any]:
    """The one session on this grant, as control knows it."""
    found: list[dict[str, Any]] = (await whole.api("eve", "GET", f"/sessions?grant={one.grant}"))["items"]
    assert len(found) <= 1
    return found[0] if found else {"running": None}


@pytest.mark.slow
async def test_a_proxy_that_is_gone_is_reaped_by_another(whole: Whole, peer: Peer, behind: Watcher) -> None:
    """Killed in mid-UPDATE: at once where the lease counts, else when the grant is over; and nothing commits."""
    vault, orders = await whole.grant("vault"), await whole.grant("orders", duration_s=GRANT_S)
    ends_at = time.time() + GRANT_S
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await whole.log_in(one, peer.port)) for one in (vault, orders)]
        known = [await in_mid_update(behind, wire, number) for number, wire in enumerate(wires)]
        for one in (vault, orders):
            await runs(whole, one)
        killed = time.time()
        await peer.kill()
    assert await gone(behind, known[0], REAPED_S) - killed > SILENCE_S - HEARTBEAT_S - 1
    assert await behind.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", known[1]) == 1
    (shown,) = [one for one in (await whole.api("root", "GET", "/proxies"))["items"] if one["name"] == peer.name]
    assert shown["silent_since"] is not None
    assert await gone(behind, known[1], GRANT_S) < ends_at + LATE_S
    for number in range(2):
        assert await behind.fetchval(f"SELECT sum(n) FROM left_{number}") == 0
    for one in (vault, orders):
        await is_on_record(whole, one)
    await peer.start()
    for one in (vault, orders):
        await is_carried_on(whole, peer, one)
    assert (await whole.api("eve", "GET", "/faults"))["items"] == []


async def runs(whole: Whole, one: Pass) -> None:
    """Control knows what the session is doing."""

    async def running() -> bool:
        return bool((await session_on(whole, one))["running"] == 2)

    await eventually(running)


async def is_on_record(whole: Whole, one: Pass) -> None:
    """Control says who has ended it, when, and what became of the transaction."""
    ended = await whole.ended(one)
    assert (ended["end_reason"], ended["reaped_by"], ended["proxy"]) == ("reaped", "edge", "other")
    assert 0 <= ended["stop_s"] < LATE_S
    told = (await whole.api("eve", "GET", f"/sessions/{ended['id']}/timeline"))["items"]
    items = [item for item in told if item["seq"] is not None]
    assert [item["kind"] for item in items] == ["start", "statement", "statement", "reaped"]
    assert (items[-1]["left_by"], items[-1]["found"], items[-1]["transaction"]) == ("other", 1, "aborted")
    assert "chain whole, signed by its proxy" in await whole.verify(ended["reaped_in"])


async def is_carried_on(whole: Whole, peer: Peer, one: Pass) -> None:
    """The proxy that comes back ends the chain, which verifies from beginning to end."""

    async def crashed() -> dict[str, Any] | None:
        known = await session_on(whole, one)
        return known if known["end_reason"] == "crashed" else None

    known = await eventually(crashed, within=BACK_S)
    assert known is not None
    assert (known["faults"], known["reaped_by"], known["state"]) == (0, "edge", "ended")
    assert "signed by proxy other" in await whole.verify(known["id"], peer.public_key)
