"""A proxy that is gone: who is told to end its sessions, when, and what the books say then."""

import json
from typing import Any

import msgspec
import pytest

from control.config import Configuration
from control.domain.reaping import GAP_S, SILENCE_S
from control.operations import reaping
from control.services import assemble
from control.store import directives
from control.times import SECOND
from proxy.contract.directive import MOST_ORPHANS, Reap
from proxy.contract.places import Present, Wanted
from proxy.contract.record import Chain, SessionReaped
from proxy.contract.verification import verify_chain
from tests.unit.control.api.test_places import post
from tests.unit.control.desk import TARGETS, Desk, Edge, end, statement

START = "2026-11-22T00:00:00.000000+00:00"


@pytest.fixture(autouse=True)
def _still(desk: Desk) -> None:
    """On a busy machine seconds go by between two lines of a test."""
    desk.clock.stop()


async def told(desk: Desk) -> list[Reap]:
    """Every reaping that proxies were told."""
    async with desk.services.store.read() as tx:
        return [one for one in await directives.after(tx, 0, 10_000) if isinstance(one, Reap)]


async def look(desk: Desk, after_s: float = 0.0) -> int:
    """Let time go by, with control looking all the while; how many directives there are then."""
    await reaping.look(desk.services)
    while after_s > 0:
        desk.clock.pass_(min(after_s, GAP_S - 1))
        after_s -= GAP_S - 1
        await reaping.look(desk.services)
    return len(await told(desk))


def end_sessions(desk: Desk) -> None:
    """Have the target end its sessions with the lease."""
    desk.services.targets["orders"] = msgspec.structs.replace(TARGETS["orders"], lost_lease="end-sessions")


async def beat(edge: Edge) -> None:
    """The proxy says that it is there."""
    await post(edge, "/v1/presence", Present(holder="proxy", run="r1", known=0, sessions=[], alone=True))


async def begun(edge: Edge, session: str, grant: str) -> Chain:
    """A session that runs."""
    chain = Chain(session)
    assert (await edge.ship(chain.seal(edge.start(grant=grant)))).is_success
    return chain


def reaped(session: str, desk: Desk, **changed: Any) -> SessionReaped:  # noqa: ANN401 any field
    """What another proxy has on record of its end."""
    now = desk.clock()
    fields: dict[str, Any] = {
        "reaped": session,
        "left_by": "edge",
        "target": "orders",
        "backend_pid": 4711,
        "backend_start": START,
        "decided_at": now - SECOND,
        "gone_at": now,
        "found": 1,
        "transaction": "aborted",
    }
    return SessionReaped(**fields | changed)


async def summary(desk: Desk, session: str) -> dict[str, Any]:
    """What control knows of the session."""
    known: dict[str, Any] = await desk.ok("eve", "GET", f"/v1/sessions/{session}")
    return known


async def listed(desk: Desk, name: str = "edge") -> dict[str, Any]:
    """How it is with the proxy."""
    items = (await desk.ok("root", "GET", "/v1/proxies"))["items"]
    return next(one for one in items if one["name"] == name)


async def test_nobody_who_is_heard_is_reaped(desk: Desk, edge: Edge) -> None:
    """However little it says, and though its grant is over: it ends its sessions itself."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant(duration_s=60))
    for _ in range(10):
        assert await look(desk, SILENCE_S - 1) == 0
        await beat(edge)
    assert await look(desk) == 0
    assert (await listed(desk))["silent_since"] is None


async def test_a_lost_lease_ends_sessions(desk: Desk, edge: Edge) -> None:
    """Once the proxy must have ended them itself; all that its start says goes along."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant())
    assert await look(desk, SILENCE_S - 1) == 0
    assert await look(desk, 2) == 1
    (order,) = await told(desk)
    assert (order.proxy, order.by) == ("edge", None)
    (orphan,) = order.orphans
    assert (orphan.session, orphan.target, orphan.server) == ("s1", "orders", None)
    assert (orphan.pid, orphan.started) == (4711, START)
    now = await listed(desk)
    assert (now["open_sessions"], now["reaping"]) == (1, 1)
    assert now["silent_since"] == now["last_seen_at"]


async def test_it_is_said_again_until_it_is_done(desk: Desk, edge: Edge) -> None:
    """A proxy that can do it may only come up later."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant(duration_s=7_200))
    assert await look(desk, SILENCE_S + 1) == 1
    assert await look(desk, 1) == 1
    assert await look(desk, 1.5) == 2
    assert await look(desk, 3) == 2
    assert await look(desk, 1.5) == 3
    other = await desk.edge("other")
    assert (await other.ship(Chain("r1").seal_signed(reaped("s1", desk), other.key))).is_success
    assert await look(desk, 60) == 3
    assert (await listed(desk))["reaping"] == 0


@pytest.mark.parametrize("how", ["expired", "revoked", "locked"])
async def test_access_that_is_over_ends_elsewhere(desk: Desk, edge: Edge, how: str) -> None:
    """As soon as it is; until then the sessions of a proxy that may only be cut off are left alone."""
    grant = await desk.grant(duration_s=60)
    await begun(edge, "s1", grant)
    assert await look(desk, SILENCE_S + 1) == 0
    if how == "expired":
        assert await look(desk, 50 - SILENCE_S) == 0
        assert await look(desk, 7) == 0
        desk.clock.pass_(2)
    elif how == "revoked":
        await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "enough"})
    else:
        await desk.ok("carol", "POST", "/v1/locks", {"person": "ada", "reason": "enough"})
    assert await look(desk) == 1


async def test_one_that_is_heard_again_is_left_to_itself(desk: Desk, edge: Edge) -> None:
    """Nobody is told again, and what others say of it then counts no more."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant())
    assert await look(desk, SILENCE_S + 1) == 1
    await beat(edge)
    assert await look(desk, 5) == 1
    assert (await listed(desk))["reaping"] == 0
    other = await desk.edge("other")
    assert (await other.ship(Chain("r1").seal_signed(reaped("s1", desk), other.key))).is_success
    assert (await summary(desk, "s1"))["state"] == "open"


async def test_a_clock_that_is_set_makes_nobody_silent(desk: Desk, edge: Edge) -> None:
    """Nor, set back, takes anybody for heard who is not, or the other way round."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant(duration_s=7_200))
    for step in (300, -600):
        await beat(edge)
        await look(desk, 1)
        desk.clock.step(step)
        assert await look(desk, SILENCE_S - 2) == 0
        await beat(edge)
        assert await look(desk, SILENCE_S - 2) == 0
    assert await look(desk, 3) == 1


async def test_a_service_that_hung_begins_to_listen_anew(desk: Desk, edge: Edge) -> None:
    """What it has not heard meanwhile, it could not hear."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant(duration_s=7_200))
    await look(desk)
    desk.clock.pass_(SILENCE_S + 1)
    assert await look(desk) == 0
    assert await look(desk, SILENCE_S - 1) == 0
    assert await look(desk, 2) == 1


async def test_a_service_that_was_away_takes_nobody_for_silent(desk: Desk, edge: Edge) -> None:
    """It has not listened for long enough itself; what an administrator has said waits until it has."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant(duration_s=7_200))
    desk.clock.pass_(3_600)
    known = Configuration(control=desk.services.settings, targets=desk.services.targets)
    again = assemble(known, desk.clock, desk.clock.watch)
    try:
        await desk.ok("root", "POST", "/v1/proxies/edge/reap", {"reason": "the machine burned"})
        for _ in range(4):
            await reaping.look(again)
            assert await told(desk) == []
            desk.clock.pass_(GAP_S - 1)
        await reaping.look(again)
        assert [one.by for one in await told(desk)] == ["root"]
    finally:
        await again.store.close()


async def test_an_administrator_knows_that_a_proxy_is_gone(desk: Desk, edge: Edge) -> None:
    """All its sessions end, whatever their grants say; in several directives, where they are many."""
    grant = await desk.grant()
    for number in range(MOST_ORPHANS + 1):
        await begun(edge, f"s{number}", grant)
    path, why = "/v1/proxies/edge/reap", {"reason": "the machine burned"}
    assert (await desk.call("carol", "POST", path, why)).status_code == 403
    early = await desk.call("root", "POST", path, why)
    assert (early.status_code, early.json()["type"]) == (409, "urn:curfew:problem:conflict")
    assert (await desk.call("root", "POST", "/v1/proxies/none/reap", why)).status_code == 404
    await look(desk, SILENCE_S + 1)
    assert (await desk.call("root", "POST", path, {"reason": ""})).status_code == 422
    answer = await desk.ok("root", "POST", path, why)
    assert answer == {"proxy": "edge", "sessions": MOST_ORPHANS + 1}
    assert await look(desk) == 2
    assert {one.by for one in await told(desk)} == {"root"}
    assert sorted(len(one.orphans) for one in await told(desk)) == [1, MOST_ORPHANS]


async def test_the_books_of_a_session_that_others_have_ended(desk: Desk, edge: Edge) -> None:
    """Its summary, its timeline, its place; and its own proxy, back, carries its chain on to its end."""
    end_sessions(desk)
    grant, other = await desk.grant(max_sessions=1, duration_s=7_200), await desk.edge("other")
    place = f"/v1/grants/{grant}/places"
    assert (await post(edge, place, Wanted(session="s1", holder="proxy", run="r1"))).json()["admitted"]
    chain = await begun(edge, "s1", grant)
    first, second = statement(1, "UPDATE t SET n = 1")
    assert (await edge.ship(chain.seal(first))).is_success
    await look(desk, SILENCE_S + 1)
    note = reaped("s1", desk)
    line = Chain("r1").seal_signed(note, other.key)
    assert (await other.ship(line)).is_success
    assert verify_chain([line], other.key.public_key()) == 1

    known = await summary(desk, "s1")
    assert (known["state"], known["end_reason"], known["outcome"]) == ("ended", "reaped", "unknown")
    assert (known["reaped_by"], known["reaped_in"], known["stop_s"]) == ("other", "r1", 1.0)
    assert (known["gone_at"], known["running"]) == (known["ended_at"], None)
    listed_now = (await desk.ok("eve", "GET", "/v1/sessions"))["items"]
    assert [one["id"] for one in listed_now] == ["s1"]
    items = (await desk.ok("eve", "GET", "/v1/sessions/s1/timeline"))["items"]
    assert [item["kind"] for item in items] == ["request", "decision", "start", "statement", "reaped"]
    assert (items[-1]["left_by"], items[-1]["transaction"]) == ("edge", "aborted")
    assert (await post(other, place, Wanted(session="s2", holder="proxy", run="r1"))).json()["admitted"]

    last = [chain.seal(second), chain.seal_signed(end(reason="crashed", outcome="rolled back"), edge.key)]
    assert (await edge.ship(*last)).json() == {"stored": 2, "known": 0}
    after = await summary(desk, "s1")
    assert (after["end_reason"], after["outcome"], after["reaped_by"]) == ("crashed", "rolled back", "other")
    assert (after["gone_at"], after["faults"], after["records"]) == (known["gone_at"], 0, 4)
    behind = chain.seal(statement(2)[0])
    assert (await edge.ship(behind)).status_code == 409
    assert json.loads(line)["gone_at"] == note.gone_at


@pytest.mark.parametrize(
    "changed",
    [{"gone_at": None}, {"backend_pid": 1}, {"backend_start": "2026-11-22T00:00:00.000001+00:00"}, {"reaped": "none"}],
)
async def test_a_word_that_proves_nothing(desk: Desk, edge: Edge, changed: dict[str, Any]) -> None:
    """Nobody saw the backend go, or it was another one: kept as a record, and the session stays open."""
    end_sessions(desk)
    await begun(edge, "s1", await desk.grant())
    await look(desk, SILENCE_S + 1)
    other = await desk.edge("other")
    note = reaped("s1", desk, **changed)
    assert (await other.ship(Chain("r1").seal_signed(note, other.key))).json() == {"stored": 1, "known": 0}
    assert (await summary(desk, "s1"))["state"] == "open"


async def test_nobody_is_taken_at_their_word_unasked(desk: Desk, edge: Edge) -> None:
    """A proxy cannot have another one's session appear ended that control never gave up."""
    await begun(edge, "s1", await desk.grant())
    other = await desk.edge("other")
    assert (await other.ship(Chain("r1").seal_signed(reaped("s1", desk), other.key))).is_success
    assert (await summary(desk, "s1"))["state"] == "open"
    unsigned = Chain("r2").seal_signed(reaped("s1", desk), edge.key)
    assert (await other.ship(unsigned)).status_code == 409
