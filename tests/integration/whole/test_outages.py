"""Services that die and come back: who is in stays in, and nobody new gets in on what can no longer be known."""

import time

import pytest

from proxy.contract.directive import HEARTBEAT_S, LEASE_S
from tests.conftest import Watcher
from tests.harness.waiting import eventually
from tests.integration.whole.stand import GARBAGE, Pass, Whole

SLACK_S = 3.0
"""For a busy machine."""
BACK_S = 20.0


@pytest.mark.slow
async def test_control_is_killed_and_comes_back(whole: Whole) -> None:
    """Sessions go on; new ones are admitted while the lease lasts, refused after it, and admitted again afterwards."""
    running, new = await whole.grant(), await whole.grant()
    garbage = await whole.refusal(GARBAGE)
    async with whole.session(running) as session:
        admitted = await outlive_control(whole, session, new, garbage)
    ended = await whole.ended(running)
    assert (ended["end_reason"], ended["outcome"], ended["faults"]) == ("closed", "nothing open", 0)
    assert ended["statements"] >= admitted + 2
    assert "signed by proxy edge" in await whole.verify(ended["id"])


async def outlive_control(whole: Whole, session: Watcher, new: Pass, garbage: dict[str, str] | None) -> int:
    """Kill control and bring it back, with `session` running. How often `new` was let in on the lease."""
    admitted = 0
    await whole.kill_control()
    killed = time.monotonic()
    try:
        while (refusal := await whole.refusal(new)) is None:
            admitted += 1
            assert time.monotonic() - killed < LEASE_S + SLACK_S, "still admitted, though the lease is lost"
            assert await session.fetchval("SELECT 1 FROM pg_sleep(0.3)") == 1
        assert time.monotonic() - killed > LEASE_S - HEARTBEAT_S - SLACK_S, "refused before the lease was lost"
        assert admitted > 0
        assert refusal == garbage
        assert await session.fetchval("SELECT 'while control is away'") == "while control is away"
    finally:
        await whole.start_control()

    async def lets_in() -> bool:
        return await whole.refusal(new) is None

    await eventually(lets_in, within=BACK_S)
    assert await session.fetchval("SELECT 2") == 2
    return admitted


async def test_a_revocation_during_an_outage_of_the_proxy_counts_when_it_is_back(whole: Whole) -> None:
    """It could not be told; it is the first thing that it learns."""
    revoked, valid = await whole.grant("archive"), await whole.grant("archive")
    assert await whole.refusal(revoked) is None
    await whole.kill_proxy()
    await whole.revoke(revoked)
    await whole.start_proxy()
    await eventually(lambda: whole.followed, within=BACK_S)

    async def knows() -> bool:
        return await whole.refusal(revoked) is not None

    await eventually(knows)
    assert await whole.refusal(valid) is None


async def test_a_proxy_that_starts_without_control_knows_what_it_knew(whole: Whole) -> None:
    """Nobody new without a lease; where a target does without one, whoever is revoked stays out."""
    orders, archive, revoked = await whole.grant(), await whole.grant("archive"), await whole.grant("archive")
    garbage = await whole.refusal(GARBAGE)
    async with await whole.log_in(revoked) as wire:
        await whole.revoke(revoked)
        await wire.rest()
    await eventually(lambda: whole.kept_by_proxy(revoked.grant))
    await whole.kill_control()
    try:
        await whole.kill_proxy()
        await whole.start_proxy()
        assert await whole.refusal(orders) == garbage
        assert await whole.refusal(archive) is None
        assert await whole.refusal(revoked) == garbage
        await eventually(lambda: whole.refusals() == [(orders.grant, "no_lease"), (revoked.grant, "revoked")])
    finally:
        await whole.start_control()

    async def lets_in() -> bool:
        return await whole.refusal(orders) is None

    await eventually(lets_in, within=BACK_S)
    assert await whole.refusal(revoked) == garbage


@pytest.mark.slow
async def test_tokens_outlive_the_rotation_of_the_key(whole: Whole) -> None:
    """The new key is announced before it signs; then tokens of both open the door, and running sessions go on."""
    old = await whole.grant()
    async with whole.session(old) as session:
        new = await rotate(whole, session, old)
        assert await whole.refusal(old) is None
        assert await whole.refusal(new) is None
        await whole.kill_control()
        followed = whole.followed
        await whole.start_control()
        await eventually(lambda: whole.followed > followed, within=BACK_S)  # with a snapshot of the keys in force
        assert await whole.refusal(old) is None
        assert await whole.refusal(new) is None
        assert await session.fetchval("SELECT 1") == 1


async def rotate(whole: Whole, session: Watcher, old: Pass) -> Pass:
    """Have a new signing key made; the same grant's token, once that key signs."""
    rotated = await whole.api("root", "POST", "/keys/rotate")

    async def reissued() -> list[Pass]:
        await session.fetchval("SELECT pg_sleep(0.3)")
        fresh = await whole.token(old.grant)
        return [fresh] if fresh.kid == rotated["kid"] else []

    assert old.kid != rotated["kid"]
    [new] = await eventually(reissued, within=LEASE_S + SLACK_S)
    return new


async def test_tokens_of_a_compromised_key_are_refused_at_once(whole: Whole) -> None:
    """The same text as for garbage, and whoever is in on it is out; a fresh token of the same grant opens the door."""
    old = await whole.grant()
    async with await whole.log_in(old) as wire:
        await wire.run("SELECT 1")
        await whole.api("root", "POST", "/keys/rotate", {"compromised": True})
        told = (await wire.rest(within=1.0))[-1].fields

    async def refused() -> dict[str, str] | None:
        return await whole.refusal(old)

    assert await eventually(refused, within=1.0) == await whole.refusal(GARBAGE)
    assert told["C"] == "57P01"
    assert "has ended: the key that signed your grant was withdrawn (grant" in told["M"]
    assert told["H"] == 'Get a fresh token with "curfew token", and connect again.'
    assert await whole.refusal(await whole.token(old.grant)) is None
