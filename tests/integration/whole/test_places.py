"""Sessions at once on a grant, over two proxies of one control: never more than it allows, whatever dies."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.conftest import Watcher
from tests.harness.roles import APP
from tests.harness.waiting import eventually
from tests.harness.wire import TERMINATE, Refused, Wire
from tests.integration.whole.peer import Peer
from tests.integration.whole.stand import Pass, Whole

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
AT_ONCE = 12
BACK_S = 20.0
NEXT_S = 2.0
"""For a busy machine; on a quiet one it takes some 20 ms."""


@pytest.fixture(scope="module")
def peer(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The second proxy."""
    with Peer(whole, tmp_path_factory.mktemp("peer")) as running:
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
