"""Following a session: what was, what comes, and when it ends."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from control.domain.people import Person
from control.domain.results import Failure, Reason, Success
from control.domain.sessions import reap
from control.operations import following
from control.services import FOLLOWED_AT_ONCE, FOLLOWERS
from control.store import people, sessions
from control.tasks import spawn
from proxy.contract.record import Chain, SessionReaped
from tests.harness.waiting import eventually
from tests.unit.control.desk import Desk, Edge, end, statement


async def person(desk: Desk, name: str) -> Person:
    """Somebody."""
    async with desk.services.store.read() as tx:
        found = await people.find(tx, name)
    assert found is not None
    return found


@asynccontextmanager
async def followed(desk: Desk, session: str = "live", who: str = "eve", **more: Any) -> AsyncIterator[list[bytes]]:  # noqa: ANN401 of `lines`
    """The lines that a follower gets; the last one is `OVER` once the stream is over, an empty one a heartbeat."""
    asker = await person(desk, who)

    async def still() -> Person | None:
        found = await person(desk, who)
        return None if found.disabled_at else found

    stream = await following.lines(desk.services, session, asker=asker, still=still, **more)
    assert isinstance(stream, Success)
    got: list[bytes] = []
    task = spawn("follow", _gather(stream.value, got))
    try:
        yield got
    finally:
        task.cancel()
        await asyncio.wait([task])


OVER = b"over"


async def _gather(stream: AsyncGenerator[Any, None], got: list[bytes]) -> None:
    try:
        async for batch in stream:
            got += batch or [b""]
        got.append(OVER)
    finally:
        await stream.aclose()


@pytest.fixture
def chain() -> Chain:
    """Of Ada's session."""
    return Chain("live")


@pytest.fixture(autouse=True)
async def begun(edge: Edge, chain: Chain) -> bytes:
    """It has begun."""
    first = chain.seal(edge.start())
    assert (await edge.ship(first)).is_success
    return first + b"\n"


async def test_records_come_as_they_are_stored(desk: Desk, edge: Edge, chain: Chain, begun: bytes) -> None:
    """What there is, then what comes, woken by its commit; and with the last record it is over."""
    async with followed(desk) as got:
        await eventually(lambda: got == [begun])
        lines = [begun]
        for record in statement(1):
            lines.append(chain.seal(record) + b"\n")
            assert (await edge.ship(lines[-1][:-1])).is_success
            await eventually(lambda: [line for line in got if line] == lines)
        last = chain.seal_signed(end(), edge.key)
        assert (await edge.ship(last)).is_success
        await eventually(lambda: got[-1] == OVER)
        assert [line for line in got if line][-2] == last + b"\n"
    assert not desk.services.store.signals._waiting
    assert desk.services.followers.room("eve")


async def test_following_goes_on_behind_a_record(desk: Desk, edge: Edge, chain: Chain) -> None:
    """Where a stream was cut; of a session that is over, what is left."""
    lines = [chain.seal(record) for record in statement(1)] + [chain.seal_signed(end(), edge.key)]
    assert (await edge.ship(*lines)).is_success
    async with followed(desk, after=1) as got:
        await eventually(lambda: got == [lines[1] + b"\n", lines[2] + b"\n", OVER])


async def test_a_session_that_others_have_ended_is_over(desk: Desk) -> None:
    """Its own last record may never come."""
    async with followed(desk) as got:
        await eventually(lambda: got)
        async with desk.services.store.write() as tx:
            found = await sessions.find(tx, "live")
            assert found is not None
            reaped = SessionReaped(
                session="r",
                reaped="live",
                left_by="edge",
                target="orders",
                backend_pid=1,
                backend_start="",
                decided_at=1,
                gone_at=2,
                found=1,
            )
            await sessions.change(tx, [(found[0], reap(found[1], reaped, by="other"))])
        await eventually(lambda: got[-1] == OVER)


async def test_a_service_that_stops_ends_its_streams(desk: Desk) -> None:
    """At once."""
    async with followed(desk) as got:
        await eventually(lambda: got)
        desk.services.stop()
        await eventually(lambda: got[-1] == OVER)


async def test_a_quiet_stream_says_that_it_lives(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load balancers hang up on silent ones."""
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.01)
    async with followed(desk) as got:
        await eventually(lambda: got.count(b"") > 2)


async def test_who_may_read_no_more_is_cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a heartbeat: a stream may last for hours."""
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.01)
    async with followed(desk) as got:
        await eventually(lambda: got.count(b"") > 2)
        await desk.ok("root", "PATCH", "/v1/people/eve", {"disabled": True})
        await eventually(lambda: got[-1] == OVER)


async def test_there_is_an_end_to_followers(desk: Desk) -> None:
    """One person has a few, and all together have some more."""
    followers = desk.services.followers
    eve = await person(desk, "eve")

    async def still() -> Person | None:
        return eve

    with ExitStack() as streams:
        for _ in range(FOLLOWED_AT_ONCE):
            assert followers.room("eve")
            streams.enter_context(followers.one_more("eve"))
        refused = await following.lines(desk.services, "live", asker=eve, still=still)
        assert isinstance(refused, Failure)
        assert refused.reason is Reason.BUSY
        assert (await desk.call("eve", "GET", "/v1/sessions/live/records?follow=true")).status_code == 503
        for name in range(FOLLOWERS - FOLLOWED_AT_ONCE):
            assert followers.room("ada")
            streams.enter_context(followers.one_more(str(name)))
        assert not followers.room("ada")
    assert followers.room("eve")


@pytest.mark.parametrize("part", ["records", "timeline"])
@pytest.mark.parametrize(("who", "status"), [("bob", 404), ("carol", 403), (None, 401)])
async def test_who_may_not_follow(desk: Desk, who: str | None, status: int, part: str) -> None:
    """As without: one's own sessions, and auditors."""
    assert (await desk.call(who, "GET", f"/v1/sessions/live/{part}?follow=true")).status_code == status


async def test_a_live_timeline(desk: Desk, edge: Edge) -> None:
    """A statement when it begins, and when it has ended; what the books get is told too."""
    asker = await person(desk, "ada")

    async def still() -> Person | None:
        return asker

    grant = await desk.grant()
    other = Chain("timed")
    assert (await edge.ship(other.seal(edge.start(grant=grant), at=desk.clock()))).is_success
    stream = await following.timeline(desk.services, "timed", asker=asker, still=still)
    assert isinstance(stream, Success)
    got: list[Any] = []
    task = spawn("follow", _gather(stream.value[1], got))

    def told() -> list[tuple[str, object]]:
        return [(item["kind"], item.get("finished")) for item in got if item and item != OVER]

    expected: list[tuple[str, object]] = [("request", None), ("decision", None), ("start", None)]
    await eventually(lambda: told() == expected)
    for record, finished in zip(statement(1), (False, True), strict=True):
        assert (await edge.ship(other.seal(record, at=desk.clock()))).is_success
        expected.append(("statement", finished))
        await eventually(lambda: told() == expected)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "seen enough"})
    expected.append(("revocation", None))
    await eventually(lambda: told() == expected)
    assert (await edge.ship(other.seal_signed(end(), edge.key, at=desk.clock()))).is_success
    await eventually(lambda: got[-1] == OVER)
    assert told() == [*expected, ("end", None)]
    await task
