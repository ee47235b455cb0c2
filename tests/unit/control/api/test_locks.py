"""Locks through the API: what they stop, who is told, and who may."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control.operations.proxies import follow
from control.times import SECOND
from proxy.contract.directive import AnyDirective, Lock, Snapshot, Unlock
from tests.unit.control.desk import Desk, Edge

WHY = {"reason": "a leak"}


async def told(desk: Desk, after: int, count: int) -> list[AnyDirective]:
    """The first of a stream's lines."""
    lines: list[AnyDirective] = []
    async with aclosing(follow(desk.services, "edge", after)) as stream:
        async with asyncio.timeout(10):
            async for line in stream:
                lines.append(line)
                if len(lines) == count:
                    break
    return lines


async def test_the_whole_way(desk: Desk, edge: Edge) -> None:
    """Locked, told to the proxies, no token; lifted, told, and a token again."""
    grant = await desk.grant()
    assert (await edge.ship(edge.session("open", grant=grant)[0])).is_success
    [before] = await told(desk, 0, 1)
    made = await desk.ok("carol", "POST", "/v1/locks", WHY | {"target": "orders"})
    assert (made["state"], made["created_by"], made["until"], made["person"]) == ("active", "carol", None, None)
    assert (made["sessions"], made["warnings"]) == (1, [])
    snapshot, order = await told(desk, before.cursor, 2)
    assert isinstance(snapshot, Snapshot)
    assert isinstance(order, Lock)
    assert snapshot.locks == [order.lock]
    assert (order.lock.id, order.lock.target, order.lock.by, order.lock.reason) == (
        made["id"],
        "orders",
        "carol",
        "a leak",
    )
    refused = await desk.call("ada", "POST", f"/v1/grants/{grant}/token")
    assert (refused.status_code, refused.json()["type"]) == (423, "urn:curfew:problem:locked")
    assert "target orders is locked by carol until it is lifted: a leak" in refused.json()["detail"]
    lifted = await desk.ok("root", "POST", f"/v1/locks/{made['id']}/lift", {"reason": "closed it"})
    assert (lifted["state"], lifted["lifted_by"], lifted["lift_reason"]) == ("lifted", "root", "closed it")
    snapshot, lift = await told(desk, order.cursor, 2)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.locks == []
    assert isinstance(lift, Unlock)
    assert (lift.lock, lift.by) == (made["id"], "root")
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/token")).is_success
    again = await desk.ok("carol", "POST", f"/v1/locks/{made['id']}/lift")
    assert again == lifted


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ({"everything": True}, 423),
        ({"person": "ada"}, 423),
        ({"target": "orders"}, 423),
        ({"profile": "readonly"}, 423),
        ({"person": "ada", "target": "orders", "profile": "readonly"}, 423),
        ({"person": "bob"}, 200),
        ({"target": "narrow"}, 200),
        ({"person": "ada", "profile": "dba"}, 200),
        ({"proxy": "edge"}, 200),
        ({"proxy": "edge", "person": "ada"}, 200),
    ],
)
async def test_no_token_for_what_is_locked(desk: Desk, names: dict[str, object], status: int) -> None:
    """A lock of a proxy leaves the others open, so there the proxy itself is who refuses."""
    grant = await desk.grant()
    await desk.ok("carol", "POST", "/v1/locks", WHY | names)
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/token")).status_code == status


async def test_what_is_locked_can_be_asked_for_and_not_approved(desk: Desk) -> None:
    """A grant's time would run and its token not be issued; the request waits, and denying is open."""
    lock = await desk.ok("carol", "POST", "/v1/locks", WHY | {"everything": True})
    request = await desk.request()
    refused = await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
    assert (refused.status_code, refused.json()["type"]) == (423, "urn:curfew:problem:locked")
    other = await desk.request()
    assert (await desk.ok("carol", "POST", f"/v1/requests/{other['id']}/deny"))["state"] == "denied"
    await desk.ok("carol", "POST", f"/v1/locks/{lock['id']}/lift")
    assert (await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/approve"))["state"] == "approved"


async def test_a_lock_is_over_by_the_clock(desk: Desk) -> None:
    """Nothing has to run for it, and no proxy is told of it any more."""
    grant = await desk.grant()
    made = await desk.ok("carol", "POST", "/v1/locks", WHY | {"everything": True, "duration_s": 60})
    snapshot = (await told(desk, 0, 1))[0]
    assert isinstance(snapshot, Snapshot)
    assert snapshot.locks[0].until is not None
    assert 50 < snapshot.locks[0].until - desk.clock() / SECOND <= 60
    desk.clock.pass_(60)
    assert (await desk.ok("carol", "GET", f"/v1/locks/{made['id']}"))["state"] == "expired"
    snapshot = (await told(desk, 0, 1))[0]
    assert isinstance(snapshot, Snapshot)
    assert snapshot.locks == []
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/token")).is_success
    late = await desk.call("carol", "POST", f"/v1/locks/{made['id']}/lift")
    assert (late.status_code, late.json()["type"]) == (409, "urn:curfew:problem:not-active")


@pytest.mark.parametrize(("who", "status"), [("carol", 201), ("root", 201), ("ada", 403), ("eve", 403), (None, 401)])
async def test_who_locks(desk: Desk, who: str | None, status: int) -> None:
    """Approvers and admins, everything included, and by themselves."""
    for names in ({"everything": True}, {"proxy": "edge"}, {"person": "bob"}):
        assert (await desk.call(who, "POST", "/v1/locks", WHY | names)).status_code == status
    listed = await desk.ok("root", "GET", "/v1/locks")
    assert len(listed["items"]) == (3 if status == 201 else 0)


async def test_nobody_lifts_a_lock_on_themselves(desk: Desk) -> None:
    """Another approver does."""
    lock = await desk.ok("root", "POST", "/v1/locks", WHY | {"person": "carol"})
    refused = await desk.call("carol", "POST", f"/v1/locks/{lock['id']}/lift")
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:curfew:problem:own-lock")
    assert (await desk.call("eve", "POST", f"/v1/locks/{lock['id']}/lift")).status_code == 403
    assert (await desk.ok("root", "POST", f"/v1/locks/{lock['id']}/lift"))["state"] == "lifted"


async def test_who_sees_which(desk: Desk) -> None:
    """Everybody what may keep themselves out, approvers and auditors all, page by page and by state."""
    names: list[dict[str, object]] = [{"person": "ada"}, {"person": "bob"}, {"target": "orders"}, {"everything": True}]
    ids = [(await desk.ok("carol", "POST", "/v1/locks", WHY | one))["id"] for one in names]
    for who, seen in {"ada": [3, 2, 0], "bob": [3, 2, 1], "carol": [3, 2, 1, 0], "eve": [3, 2, 1, 0]}.items():
        listed = await desk.ok(who, "GET", "/v1/locks")
        assert [one["id"] for one in listed["items"]] == [ids[number] for number in seen]
    assert (await desk.call("bob", "GET", f"/v1/locks/{ids[0]}")).status_code == 404
    assert (await desk.call("bob", "POST", f"/v1/locks/{ids[0]}/lift")).status_code == 404
    assert (await desk.call("bob", "GET", f"/v1/locks/{ids[1]}")).status_code == 200
    await desk.ok("carol", "POST", f"/v1/locks/{ids[1]}/lift")
    first = await desk.ok("carol", "GET", "/v1/locks?state=active&limit=2")
    rest = await desk.ok("carol", "GET", f"/v1/locks?state=active&limit=2&after={first['next']}")
    assert [one["id"] for one in first["items"] + rest["items"]] == [ids[3], ids[2], ids[0]]
    assert rest["next"] is None
    assert [one["id"] for one in (await desk.ok("eve", "GET", "/v1/locks?state=lifted"))["items"]] == [ids[1]]
    for query in ("limit=0", "after=-1", "state=odd"):
        assert (await desk.call("carol", "GET", f"/v1/locks?{query}")).status_code == 422


def ahead(**much: float) -> str:
    """A time from now on, in RFC 3339."""
    return (datetime.now(UTC) + timedelta(**much)).isoformat()


@pytest.mark.parametrize(
    "body",
    [
        {},
        WHY,
        {"everything": True},
        WHY | {"everything": "yes"},
        WHY | {"everything": True, "person": "ada"},
        WHY | {"person": ""},
        WHY | {"person": "a\x00b"},
        WHY | {"person": "\ud800"},
        WHY | {"person": 5},
        WHY | {"target": "x" * 64},
        WHY | {"target": "orders", "until": ahead(seconds=-1)},
        WHY | {"target": "orders", "until": ahead(days=367)},
        WHY | {"target": "orders", "until": "9999-12-31T23:59:59-23:59"},
        WHY | {"target": "orders", "until": "0001-01-01T00:00:00+23:59"},
        WHY | {"target": "orders", "until": "2026-11-22T12:00:00"},
        WHY | {"target": "orders", "until": "2999-01-01"},
        WHY | {"target": "orders", "until": 4_000_000_000},
        WHY | {"target": "orders", "until": "4000000000"},
        WHY | {"target": "orders", "until": ahead(hours=1), "duration_s": 60},
        WHY | {"target": "orders", "duration_s": 0},
        WHY | {"target": "orders", "duration_s": 10**30},
        WHY | {"target": "orders", "surprise": 1},
        {"target": "orders", "reason": "\x1b[2J"},
        {"target": "orders", "reason": " "},
        [],
        None,
    ],
)
async def test_what_is_no_lock(desk: Desk, body: Any) -> None:  # noqa: ANN401 any JSON
    """Each is a 422 that says why, and locks nothing."""
    refused = await desk.call("carol", "POST", "/v1/locks", body)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["detail"]
    assert not (await desk.ok("root", "GET", "/v1/locks"))["items"]


async def test_until_a_time_of_whatever_zone(desk: Desk) -> None:
    """It is the same instant."""
    when = datetime.now(UTC).replace(microsecond=123_456) + timedelta(hours=1)
    for text in (when.isoformat(), f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"):
        made = await desk.ok("carol", "POST", "/v1/locks", WHY | {"target": "orders", "until": text})
        assert made["until"] == f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"


async def test_a_lock_of_what_nobody_knows_is_made_with_a_warning(desk: Desk) -> None:
    """It may be for somebody who comes tomorrow, and it may be a slip of the pen."""
    nobody = "o'Brien\\ 😀"
    made = await desk.ok("carol", "POST", "/v1/locks", WHY | {"person": nobody, "proxy": "edgee"})
    assert made["state"] == "active"
    assert made["warnings"] == [f"there is nobody called {nobody}", "no proxy edgee has joined"]
    assert (await desk.ok("eve", "GET", f"/v1/locks/{made['id']}"))["person"] == nobody


async def test_locks_have_a_bound_and_a_lock_of_everything_has_none(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every proxy is told in one line stays short, and an emergency finds no full list."""
    monkeypatch.setattr("control.domain.locks.IN_FORCE", 1)
    await desk.ok("carol", "POST", "/v1/locks", WHY | {"person": "ada"})
    refused = await desk.call("carol", "POST", "/v1/locks", WHY | {"person": "bob"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:curfew:problem:conflict")
    assert (await desk.call("carol", "POST", "/v1/locks", WHY | {"everything": True})).is_success


async def test_the_sessions_that_a_lock_ends_are_counted(desk: Desk, edge: Edge) -> None:
    """Open ones alone, and those that fit every name; the list of sessions takes the same names."""
    assert (await edge.ship(*edge.session("over"))).is_success
    for name, person in (("one", "ada"), ("two", "bob")):
        assert (await edge.ship(edge.session(name, person=person)[0])).is_success
    for names, count in (({"everything": True}, 2), ({"person": "bob"}, 1), ({"proxy": "edge", "profile": "dba"}, 0)):
        assert (await desk.ok("carol", "POST", "/v1/locks", WHY | names))["sessions"] == count
    for query, seen in (("proxy=edge", 2), ("proxy=other", 0), ("profile=readonly&person=ada", 1), ("profile=x", 0)):
        assert len((await desk.ok("carol", "GET", f"/v1/sessions?state=open&{query}"))["items"]) == seen
