"""From a request to a token and its end, through the API."""

import asyncio
from typing import Any

import pytest

from control.domain.results import Success
from control.keys import Signer
from control.tasks import spawn
from control.times import SECOND
from proxy.contract.token import KeySet, verify
from tests.harness.waiting import eventually
from tests.unit.control.desk import AUDIENCE, ISSUER, Desk

ASKED = {"target": "orders", "profile": "readonly", "reason": "look"}


async def test_the_whole_way(desk: Desk) -> None:
    """Asked, approved, a token that a proxy takes, revoked."""
    request = await desk.request()
    assert (request["state"], request["person"], request["databases"]) == ("pending", "ada", ["shop"])
    approved = await desk.ok(
        "carol", "POST", f"/v1/requests/{request['id']}/approve", {"comment": "go", "duration_s": 60}
    )
    assert (approved["state"], approved["decided_by"], approved["comment"]) == ("approved", "carol", "go")
    grant = await desk.ok("ada", "GET", f"/v1/grants/{approved['grant']}")
    assert (grant["state"], grant["approved_by"], grant["request"]) == ("active", "carol", request["id"])
    token = await desk.ok("ada", "POST", f"/v1/grants/{grant['id']}/token")
    assert (token["user"], token["dbname"], token["host"], token["port"]) == ("ada", "orders", "proxy.example", 6432)
    assert (token["grant"], token["expires_at"]) == (grant["id"], grant["expires_at"])
    keys = KeySet.from_jwks((await desk.call(None, "GET", "/v1/jwks")).text)
    signed = verify(token["token"], keys=keys, issuer=ISSUER, audience=AUDIENCE, now=desk.clock() / SECOND)
    assert (signed.id, signed.person, signed.databases, signed.approved_by) == (grant["id"], "ada", ("shop",), "carol")
    assert signed.expires_at - signed.not_before == 60
    revoked = await desk.ok("carol", "POST", f"/v1/grants/{grant['id']}/revoke", {"reason": "over"})
    assert (revoked["state"], revoked["revoked_by"], revoked["revoke_reason"]) == ("revoked", "carol", "over")
    refused = await desk.call("ada", "POST", f"/v1/grants/{grant['id']}/token")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:curfew:problem:not-active")


async def test_a_grant_that_is_bound_to_a_certificate(desk: Desk) -> None:
    """Whoever approves sees it, and the token says it (`cnf`, RFC 8705)."""
    thumbprint = "A" * 43
    asked = await desk.request(certificate=thumbprint)
    seen = await desk.ok("carol", "GET", f"/v1/requests/{asked['id']}")
    approved = await desk.ok("carol", "POST", f"/v1/requests/{asked['id']}/approve", {})
    grant = await desk.ok("ada", "GET", f"/v1/grants/{approved['grant']}")
    assert [one["certificate"] for one in (asked, seen, approved, grant)] == [thumbprint] * 4
    token = (await desk.ok("ada", "POST", f"/v1/grants/{grant['id']}/token"))["token"]
    keys = KeySet.from_jwks((await desk.call(None, "GET", "/v1/jwks")).text)
    signed = verify(token, keys=keys, issuer=ISSUER, audience=AUDIENCE, now=desk.clock() / SECOND)
    assert signed.certificate == thumbprint


@pytest.mark.parametrize("action", ["approve", "deny"])
async def test_nobody_decides_their_own(desk: Desk, action: str) -> None:
    """Not even an admin."""
    request = await desk.request("root")
    refused = await desk.call("root", "POST", f"/v1/requests/{request['id']}/{action}", {})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:curfew:problem:own-request")
    assert (await desk.ok("root", "GET", f"/v1/requests/{request['id']}"))["state"] == "pending"


async def test_decisions_that_are_not_ones_own_to_make(desk: Desk) -> None:
    """A requester does not see others' requests, an auditor does not decide, an approver does not withdraw."""
    request = await desk.request()
    path = f"/v1/requests/{request['id']}"
    assert (await desk.call("bob", "POST", f"{path}/approve", {})).status_code == 404
    assert (await desk.call("eve", "POST", f"{path}/deny", {})).status_code == 404
    assert (await desk.call("carol", "POST", f"{path}/withdraw")).status_code == 403
    assert (await desk.ok("ada", "POST", f"{path}/withdraw"))["state"] == "withdrawn"
    late = await desk.call("carol", "POST", f"{path}/approve", {})
    assert (late.status_code, late.json()["type"]) == (409, "urn:curfew:problem:wrong-state")


async def test_two_approvals_at_once_make_one_grant(desk: Desk) -> None:
    """The second finds it decided."""
    request = await desk.request()
    path = f"/v1/requests/{request['id']}/approve"
    answers = await asyncio.gather(*(desk.call(who, "POST", path, {}) for who in ("carol", "root", "carol", "root")))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len((await desk.ok("root", "GET", "/v1/grants"))["items"]) == 1


async def test_decisions_need_no_body(desk: Desk) -> None:
    """Nothing to say is said by saying nothing."""
    one, two = await desk.request(), await desk.request()
    assert (await desk.ok("carol", "POST", f"/v1/requests/{one['id']}/approve"))["state"] == "approved"
    assert (await desk.ok("carol", "POST", f"/v1/requests/{two['id']}/deny"))["state"] == "denied"


async def test_a_request_expires(desk: Desk) -> None:
    """By the clock, in every answer, with no job that has to run."""
    request = await desk.request()
    desk.clock.pass_(86_400)
    assert (await desk.ok("ada", "GET", f"/v1/requests/{request['id']}"))["state"] == "expired"
    assert (await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})).status_code == 409
    listed = await desk.ok("ada", "GET", "/v1/requests?state=expired")
    assert [item["id"] for item in listed["items"]] == [request["id"]]
    assert not (await desk.ok("ada", "GET", "/v1/requests?state=pending"))["items"]


async def test_a_grant_expires(desk: Desk) -> None:
    """Without a job, too."""
    grant = await desk.grant(duration_s=10)
    desk.clock.pass_(10)
    assert (await desk.ok("ada", "GET", f"/v1/grants/{grant}"))["state"] == "expired"
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/token")).status_code == 409
    assert (await desk.call("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "x"})).status_code == 409
    assert [item["id"] for item in (await desk.ok("ada", "GET", "/v1/grants?state=expired"))["items"]] == [grant]
    assert not (await desk.ok("ada", "GET", "/v1/grants?state=active"))["items"]


async def test_a_wait_ends_with_the_decision(desk: Desk) -> None:
    """At once, not at the end of the time."""
    request = await desk.request()
    waiting = spawn("wait", desk.ok("ada", "GET", f"/v1/requests/{request['id']}?wait_s=60"))
    async with asyncio.timeout(10):
        await eventually(lambda: desk.services.store.signals._waiting)
        await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/deny", {})
        assert (await waiting)["state"] == "denied"


async def test_a_wait_ends_with_its_time_and_with_the_service(desk: Desk) -> None:
    """The request is still pending then."""
    request = await desk.request()
    path = f"/v1/requests/{request['id']}"
    assert (await desk.ok("ada", "GET", f"{path}?wait_s=0.05"))["state"] == "pending"
    waiting = spawn("wait", desk.ok("ada", "GET", f"{path}?wait_s=60"))
    async with asyncio.timeout(10):
        await eventually(lambda: desk.services.store.signals._waiting)
        desk.services.stop()
        assert (await waiting)["state"] == "pending"


async def test_a_token_that_no_proxy_would_take_is_not_given_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read once more before it leaves."""
    grant = await desk.grant()
    good = await desk.ok("ada", "POST", f"/v1/grants/{grant}/token")
    monkeypatch.setattr(Signer, "sign", lambda *_: Success(good["token"][:-8] + "AAAAAAAA"))
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/token")).status_code == 500


async def test_who_sees_what(desk: Desk) -> None:
    """Requesters their own, approvers and admins all, auditors none of requests and grants."""
    grants = {who: await desk.grant(who) for who in ("ada", "bob")}
    for who, count in {"ada": 1, "bob": 1, "carol": 2, "root": 2, "eve": 0}.items():
        for kind in ("requests", "grants"):
            assert len((await desk.ok(who, "GET", f"/v1/{kind}"))["items"]) == count, (who, kind)
    assert not (await desk.ok("ada", "GET", "/v1/grants?person=bob"))["items"]
    assert len((await desk.ok("carol", "GET", "/v1/grants?person=bob"))["items"]) == 1
    assert (await desk.call("ada", "GET", f"/v1/grants/{grants['bob']}")).status_code == 404
    assert (await desk.call("ada", "POST", f"/v1/grants/{grants['bob']}/token")).status_code == 404
    assert (await desk.call("bob", "POST", f"/v1/grants/{grants['ada']}/revoke", {"reason": "x"})).status_code == 404
    assert (await desk.call("carol", "POST", f"/v1/grants/{grants['ada']}/token")).status_code == 403


async def test_ones_own_grant_can_be_given_back(desk: Desk) -> None:
    """Twice is once."""
    grant = await desk.grant()
    first = await desk.ok("ada", "POST", f"/v1/grants/{grant}/revoke", {"reason": "done early"})
    again = await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "again"})
    assert first == again
    assert first["revoked_by"] == "ada"


async def test_lists_come_in_pages(desk: Desk) -> None:
    """Newest first, each once, and the last page says that it is."""
    made = [(await desk.request())["id"] for _ in range(5)]
    seen: list[str] = []
    page, after = {}, ""
    for expected in (2, 2, 1):
        page = await desk.ok("ada", "GET", f"/v1/requests?limit=2{after}")
        assert len(page["items"]) == expected
        seen += [item["id"] for item in page["items"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert seen == made[::-1]


async def test_targets_tell_no_secrets(desk: Desk) -> None:
    """What can be asked for, and neither the address nor the logins."""
    targets = await desk.ok("ada", "GET", "/v1/targets")
    assert [target["name"] for target in targets["items"]] == ["narrow", "orders"]
    orders = targets["items"][1]
    assert [profile["name"] for profile in orders["profiles"]] == ["dba", "readonly"]
    assert orders == orders | {"description": "The shop", "database": "shop", "databases": ["*"]}
    assert orders.keys() == {"name", "description", "database", "databases", "profiles"}


@pytest.mark.parametrize(
    "body",
    [
        ASKED | {"target": "nowhere"},
        ASKED | {"reason": ""},
        ASKED | {"reason": "\ud800"},
        ASKED | {"reason": "x" * 2_001},
        ASKED | {"duration_s": 28_801},
        ASKED | {"duration_s": 10**30},
        ASKED | {"duration_s": "60"},
        ASKED | {"duration_s": True},
        ASKED | {"duration_s": 1.5},
        ASKED | {"max_sessions": 0},
        ASKED | {"databases": ["a/b"]},
        ASKED | {"databases": "shop"},
        ASKED | {"databases": [f"{n:063}" for n in range(16)]},
        ASKED | {"addresses": ["10.0.0.1/8"]},
        ASKED | {"certificate": "00:11"},
        ASKED | {"surprise": 1},
        {"target": "orders"},
        [],
        "text",
        None,
    ],
)
async def test_what_cannot_be_asked_for(desk: Desk, body: Any) -> None:  # noqa: ANN401 any JSON
    """Each is a 422 that says why, and leaves nothing behind. The wide one's token would be too long."""
    refused = await desk.call("ada", "POST", "/v1/requests", body)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["detail"]
    assert not (await desk.ok("root", "GET", "/v1/requests"))["items"]


async def test_an_auditor_asks_for_nothing(desk: Desk) -> None:
    """It takes the role."""
    assert (await desk.call("eve", "POST", "/v1/requests", ASKED)).status_code == 403


async def test_approving_what_cannot_be_used_any_more(desk: Desk) -> None:
    """The person has lost the role meanwhile."""
    request = await desk.request()
    await desk.ok("root", "PATCH", "/v1/people/ada", {"roles": ["auditor"]})
    refused = await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:curfew:problem:conflict")


@pytest.mark.parametrize("query", ["wait_s=61", "wait_s=-1", "wait_s=nan", "wait_s=x"])
async def test_a_wait_is_bounded(desk: Desk, query: str) -> None:
    """To a minute."""
    assert (await desk.call("ada", "GET", f"/v1/requests/x?{query}")).status_code == 422


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=9223372036854775808", "state=odd"])
async def test_a_page_is_bounded(desk: Desk, query: str) -> None:
    """Sizes and cursors that no database takes."""
    for kind in ("requests", "grants", "sessions"):
        assert (await desk.call("ada", "GET", f"/v1/{kind}?{query}")).status_code == 422


@pytest.mark.parametrize(
    ("asked", "picked", "granted"),
    [
        ({}, {}, "hard"),
        ({"end": "finish"}, {}, "hard"),
        ({}, {"end": "finish"}, "finish"),
        ({"end": "finish"}, {"end": "finish"}, "finish"),
    ],
)
async def test_the_approver_picks_how_it_ends(desk: Desk, asked: Any, picked: Any, granted: str) -> None:  # noqa: ANN401 JSON
    """Whatever was asked for, which stays to be seen: hard by default, and the token says what was picked."""
    request = await desk.request(**asked)
    approved = await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/approve", picked)
    assert request["end"] == approved["end"] == asked.get("end", "hard")
    assert (await desk.ok("ada", "GET", f"/v1/grants/{approved['grant']}"))["end"] == granted
    token = (await desk.ok("ada", "POST", f"/v1/grants/{approved['grant']}/token"))["token"]
    keys = KeySet.from_jwks((await desk.call(None, "GET", "/v1/jwks")).text)
    assert verify(token, keys=keys, issuer=ISSUER, audience=AUDIENCE, now=desk.clock() / SECOND).end == granted


async def test_an_end_mode_that_is_none(desk: Desk) -> None:
    """Neither asked for nor granted."""
    assert (await desk.call("ada", "POST", "/v1/requests", ASKED | {"end": "soft"})).status_code == 422
    request = await desk.request()
    path = f"/v1/requests/{request['id']}"
    assert (await desk.call("carol", "POST", f"{path}/approve", {"end": "never"})).status_code == 422
    assert (await desk.ok("carol", "GET", path))["state"] == "pending"
