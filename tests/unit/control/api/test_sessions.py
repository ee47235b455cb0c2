"""Sessions, their records and timelines: who sees what, and killing."""

import json

import pytest

from control.tasks import spawn
from control.times import SECOND
from proxy.contract.record import AuthRefused, Chain, StatementStart
from tests.harness.waiting import eventually
from tests.unit.control.desk import Desk, Edge, end


@pytest.fixture(autouse=True)
async def sessions(edge: Edge) -> None:
    """Ada's ended one, Bob's open one, and a refused connection."""
    assert (await edge.ship(*edge.session("adas", grant="grt_a"))).is_success
    assert (await edge.ship(edge.session("bobs", person="bob", grant="grt_b")[0])).is_success
    refused = AuthRefused(refusal="expired", user="ada", database="orders", grant="grt_a")
    assert (await edge.ship(Chain("no").seal_signed(refused, edge.key))).is_success


@pytest.mark.parametrize(
    ("who", "query", "seen"),
    [
        ("ada", "", ["adas"]),
        ("ada", "?person=bob", []),
        ("ada", "?state=refused", []),
        ("carol", "", ["bobs", "adas"]),
        ("eve", "", ["bobs", "adas"]),
        ("eve", "?state=open", ["bobs"]),
        ("eve", "?state=ended", ["adas"]),
        ("eve", "?state=refused", ["no"]),
        ("eve", "?person=bob", ["bobs"]),
        ("eve", "?grant=grt_a", ["adas"]),
        ("eve", "?target=orders", ["bobs", "adas"]),
        ("eve", "?target=other", []),
        ("root", "", ["bobs", "adas"]),
    ],
)
async def test_who_sees_which(desk: Desk, who: str, query: str, seen: list[str]) -> None:
    """Requesters their own, approvers and auditors all; refused connections where they are asked for."""
    listed = await desk.ok(who, "GET", f"/v1/sessions{query}")
    assert [session["id"] for session in listed["items"]] == seen


@pytest.mark.parametrize("part", ["records", "timeline"])
@pytest.mark.parametrize(
    ("who", "session", "status"),
    [
        ("ada", "adas", 200),
        ("ada", "bobs", 404),
        ("bob", "adas", 404),
        ("carol", "adas", 403),
        ("carol", "none", 404),
        ("eve", "adas", 200),
        ("eve", "no", 200),
        ("eve", "none", 404),
        ("root", "bobs", 200),
        (None, "adas", 401),
    ],
)
async def test_who_reads_what_was_done(desk: Desk, who: str | None, session: str, status: int, part: str) -> None:
    """One's own, and auditors. An approver who may kill a session does not read it."""
    assert (await desk.call(who, "GET", f"/v1/sessions/{session}/{part}")).status_code == status


async def test_a_timeline(desk: Desk) -> None:
    """The session's summary, and its items in order."""
    told = await desk.ok("ada", "GET", "/v1/sessions/adas/timeline")
    assert told["session"] == await desk.ok("ada", "GET", "/v1/sessions/adas")
    assert [item["kind"] for item in told["items"]] == ["start", "statement", "end"]
    assert told["items"][1]["duration_s"] == 0.0015
    open_one = await desk.ok("bob", "GET", "/v1/sessions/bobs/timeline")
    assert [item["kind"] for item in open_one["items"]] == ["start"]


async def test_a_long_session_comes_in_pieces(desk: Desk, edge: Edge) -> None:
    """More than one read's worth, all of it and once."""
    lines = edge.session("long", statements=1_300)
    assert (await edge.ship(*lines)).is_success
    assert (await desk.call("eve", "GET", "/v1/sessions/long/records")).content.splitlines() == lines
    told = await desk.ok("eve", "GET", "/v1/sessions/long/timeline")
    assert [item["seq"] for item in told["items"]] == [0, *range(1, 2_601, 2), 2_601]


@pytest.mark.parametrize(
    ("who", "session", "status"),
    [
        ("bob", "bobs", 202),
        ("carol", "bobs", 202),
        ("root", "bobs", 202),
        ("ada", "bobs", 404),
        ("eve", "bobs", 403),
        ("carol", "adas", 409),
        ("carol", "none", 404),
    ],
)
async def test_who_kills(desk: Desk, who: str, session: str, status: int) -> None:
    """Its own person, approvers and admins; and only what lives."""
    killed = await desk.call(who, "POST", f"/v1/sessions/{session}/kill", {"reason": "why not"})
    assert killed.status_code == status


async def test_killing_takes_a_reason(desk: Desk) -> None:
    """It goes to the proxy, and into the session's end."""
    for body in ({}, {"reason": ""}, {"reason": "\x1b"}):
        assert (await desk.call("carol", "POST", "/v1/sessions/bobs/kill", body)).status_code == 422


async def test_a_broken_reader_holds_nothing(desk: Desk) -> None:
    """Nobody's listener is left once the answers are through."""
    await desk.ok("ada", "GET", "/v1/sessions/adas/timeline")
    assert not desk.services.store.signals._waiting


async def test_faults_are_for_auditors(desk: Desk) -> None:
    """And admins."""
    for who, status in {"ada": 403, "carol": 403, "eve": 200, "root": 200}.items():
        assert (await desk.call(who, "GET", "/v1/faults")).status_code == status


async def test_waiting_for_an_end(desk: Desk, edge: Edge) -> None:
    """The answer comes with the record that says so; one that has ended is not waited for."""
    assert (await desk.ok("carol", "GET", "/v1/sessions/adas?wait_s=60"))["state"] == "ended"
    assert (await desk.ok("carol", "GET", "/v1/sessions/bobs?wait_s=0.01"))["state"] == "open"
    waiting = spawn("wait for the end", desk.ok("carol", "GET", "/v1/sessions/bobs?wait_s=60"))
    await eventually(lambda: "session:bobs" in desk.services.store.signals._waiting)
    chain = Chain("bobs")
    chain.follow(0, (await desk.call("eve", "GET", "/v1/sessions/bobs/records")).content.rstrip(b"\n"))
    last = chain.seal_signed(end(0, reason="killed", by="carol"), edge.key)
    assert (await edge.ship(last)).is_success
    ended = await waiting
    assert (ended["state"], ended["end_reason"], ended["ended_by"]) == ("ended", "killed", "carol")
    for query in ("wait_s=61", "wait_s=-1", "wait_s=nan"):
        assert (await desk.call("carol", "GET", f"/v1/sessions/bobs?{query}")).status_code == 422
    assert (await desk.call("ada", "GET", "/v1/sessions/bobs?wait_s=60")).status_code == 404


async def test_how_long_ends_took_is_measured_by_reason(desk: Desk, edge: Edge) -> None:
    """Once for each session, however often its records come; not where nobody saw the backend go."""
    lines = edge.session("again")
    for _ in range(2):
        assert (await edge.ship(*lines)).is_success
    unseen = Chain("unseen")
    last = unseen.seal(edge.start()), unseen.seal_signed(end(reason="crashed", gone_at=None), edge.key)
    assert (await edge.ship(*last)).is_success
    text = (await desk.call(None, "GET", "/metrics")).text
    assert 'curfew_control_stop_seconds_count{reason="closed"} 2.0' in text
    assert 'curfew_control_stop_seconds_sum{reason="closed"} 0.5' in text
    assert 'curfew_control_stop_seconds_bucket{le="0.25",reason="closed"} 2.0' in text
    assert "crashed" not in text


async def test_what_an_approver_sees_of_an_open_session(desk: Desk, edge: Edge) -> None:
    """Who, where, until when, and which command runs since when, but not what it says."""
    chain = Chain("busy")
    begun = StatementStart(statement=1, kind="query", sql="DELETE FROM salaries", state="I", transaction=1)
    assert (await edge.ship(chain.seal(edge.start()), chain.seal(begun, at=3 * SECOND))).is_success
    one = await desk.ok("carol", "GET", "/v1/sessions/busy")
    assert one == one | {
        "person": "ada",
        "target": "orders",
        "expires_at": "2033-05-18T03:33:20.000000Z",
        "running": 1,
        "running_since": "1970-01-01T00:00:03.000000Z",
        "running_command": "DELETE",
        "decided_at": None,
    }
    assert "salaries" not in str(one)


async def test_a_timeline_as_lines(desk: Desk) -> None:
    """For whoever does not want to hold a long one: the session first, then each item."""
    headers = {"authorization": f"Bearer {desk.api_keys['ada']}", "accept": "application/x-ndjson"}
    response = await desk.http.get("/v1/sessions/adas/timeline", headers=headers)
    assert response.headers["content-type"] == "application/x-ndjson"
    first, *items = [json.loads(line) for line in response.content.splitlines()]
    told = await desk.ok("ada", "GET", "/v1/sessions/adas/timeline")
    assert {"session": first["session"], "items": items} == told


async def test_what_the_books_have_is_told(desk: Desk, edge: Edge) -> None:
    """Who asked and who approved, before the session; more time, a lock and the revocation in their place in it."""
    grant = await desk.grant(duration_s=600, reason="look at an order")
    desk.clock.pass_(60)
    chain = Chain("booked")
    assert (await edge.ship(chain.seal(edge.start(grant=grant), at=desk.clock()))).is_success
    desk.clock.pass_(1)
    more = await desk.ok("ada", "POST", f"/v1/grants/{grant}/extensions", {"duration_s": 60, "reason": "slow"})
    await desk.ok("carol", "POST", f"/v1/requests/{more['id']}/deny", {"comment": "no more"})
    desk.clock.pass_(1)
    await desk.ok("carol", "POST", "/v1/locks", {"person": "bob", "reason": "wait"})
    scope = {"target": "orders", "profile": "readonly"}
    lock = await desk.ok("carol", "POST", "/v1/locks", scope | {"reason": "wait", "duration_s": 60})
    await desk.ok("carol", "POST", f"/v1/locks/{lock['id']}/lift", {})
    desk.clock.pass_(1)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "seen enough"})
    for who in ("ada", "eve"):
        items = (await desk.ok(who, "GET", "/v1/sessions/booked/timeline"))["items"]
        assert [(item["kind"], item["text"], item["seq"]) for item in items] == [
            ("request", "ada asked for orders as readonly: look at an order", None),
            ("decision", "carol approved it for 10m", None),
            ("start", "ada connected to orders/shop as readonly", 0),
            ("request", "ada asked for more time: slow", None),
            ("decision", "carol denied it: no more", None),
            ("lock", "carol locked target orders, profile readonly: wait", None),
            ("unlock", "carol lifted the lock of target orders, profile readonly", None),
            ("revocation", "carol revoked the grant: seen enough", None),
        ]
        assert items == sorted(items, key=lambda item: item["at"])
        assert -61 < items[0]["offset_s"] < -59
    assert (await desk.call("carol", "GET", "/v1/sessions/booked/timeline")).status_code == 403


async def test_what_came_behind_the_end_is_not_told(desk: Desk, edge: Edge) -> None:
    """A grant that was revoked, and something that was locked, long after the session."""
    grant = await desk.grant()
    chain = Chain("over")
    last = end(0, decided_at=desk.clock(), gone_at=None)
    lines = chain.seal(edge.start(grant=grant), at=desk.clock()), chain.seal_signed(last, edge.key, at=desk.clock())
    assert (await edge.ship(*lines)).is_success
    desk.clock.pass_(60)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "seen enough"})
    await desk.ok("carol", "POST", "/v1/locks", {"target": "orders", "reason": "wait"})
    items = (await desk.ok("eve", "GET", "/v1/sessions/over/timeline"))["items"]
    assert [item["kind"] for item in items] == ["request", "decision", "start", "end"]


@pytest.mark.parametrize("how", ["killed", "revoked", "locked"])
async def test_why_it_was_ended(desk: Desk, edge: Edge, how: str) -> None:
    """The last item says who did it and what for; of what else they did at other times, not that."""
    desk.clock.stop()
    grant = await desk.grant()
    chain = Chain("cut")
    assert (await edge.ship(chain.seal(edge.start(grant=grant), at=desk.clock()))).is_success
    decided: dict[str, int] = {}
    for what, path, body in (
        ("killed", "sessions/bobs/kill", {"reason": "another"}),
        ("killed", "sessions/cut/kill", {"reason": "runaway query"}),
        ("locked", "locks", {"target": "orders", "reason": "wait"}),
        ("revoked", f"grants/{grant}/revoke", {"reason": "seen enough"}),
        ("killed", "sessions/cut/kill", {"reason": "again"}),
        ("locked", "locks", {"person": "ada", "reason": "for good"}),
    ):
        desk.clock.pass_(1)
        if "bobs" not in path:
            decided.setdefault(what, desk.clock())
        await desk.ok("carol", "POST", f"/v1/{path}", body)
    last = end(0, reason=how, by="carol", decided_at=decided[how], gone_at=None)
    assert (await edge.ship(chain.seal_signed(last, edge.key, at=desk.clock()))).is_success
    items = (await desk.ok("eve", "GET", "/v1/sessions/cut/timeline"))["items"]
    reason = {"killed": "runaway query", "revoked": "seen enough", "locked": "wait"}[how]
    assert items[-1]["why"] == reason
    assert items[-1]["text"].startswith(f"the session ended: {how} by carol: '{reason}'; ")


async def test_nobody_ended_it(desk: Desk) -> None:
    """Then there is no reason."""
    items = (await desk.ok("ada", "GET", "/v1/sessions/adas/timeline"))["items"]
    assert (items[-1]["by"], items[-1]["why"]) == (None, None)
