"""More time on a grant, through the API."""

import asyncio
from typing import Any

import pytest

from control.operations import keys as key_operations
from control.tasks import spawn
from control.times import SECOND
from proxy.contract.directive import Extend, Keys, Snapshot
from proxy.contract.token import KeySet, verify
from tests.harness.waiting import eventually
from tests.unit.control.api.test_locks import told
from tests.unit.control.desk import AUDIENCE, ISSUER, Desk

MORE = {"duration_s": 1_800, "reason": "the index takes longer"}


async def asked(desk: Desk, grant: str, **changed: object) -> Any:  # noqa: ANN401 JSON
    """A pending request for more time."""
    return await desk.ok("ada", "POST", f"/v1/grants/{grant}/extensions", MORE | changed)


async def extended(desk: Desk, grant: str, **changed: object) -> Any:  # noqa: ANN401 JSON
    """The same, approved."""
    request = await asked(desk, grant, **changed)
    return await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/approve", {"comment": "go on"})


async def expires(desk: Desk, token: str) -> float:
    """When a token ends, as a proxy reads it now."""
    keys = KeySet.from_jwks((await desk.call(None, "GET", "/v1/jwks")).text)
    return verify(token, keys=keys, issuer=ISSUER, audience=AUDIENCE, now=desk.clock() / SECOND).expires_at


async def test_the_whole_way(desk: Desk) -> None:
    """Asked, approved by somebody else, told to the proxies; the new token says the new end, and all of it is told."""
    grant = await desk.grant()
    before = await desk.ok("ada", "GET", f"/v1/grants/{grant}")
    old = (await desk.ok("ada", "POST", f"/v1/grants/{grant}/token"))["token"]
    [start] = await told(desk, 0, 1)
    request = await asked(desk, grant)
    assert (request["extends"], request["grant"], request["state"]) == (grant, None, "pending")
    done = await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/approve", {"comment": "go on"})
    assert (done["state"], done["grant"], done["decided_by"]) == ("approved", grant, "carol")
    after = await desk.ok("ada", "GET", f"/v1/grants/{grant}")
    assert after == before | {"expires_at": after["expires_at"], "extensions": after["extensions"]}
    [one] = after["extensions"]
    assert one == one | {"request": request["id"], "by": "carol", "expires_at": after["expires_at"], **MORE}
    assert (one["at"], before["extensions"]) == (done["decided_at"], [])
    new = (await desk.ok("ada", "POST", f"/v1/grants/{grant}/token"))["token"]
    assert await expires(desk, new) - await expires(desk, old) == 1_800
    snapshot, order = await told(desk, start.cursor, 2)
    assert isinstance(snapshot, Snapshot)
    assert isinstance(order, Extend)
    assert snapshot.extended == [order.extension]
    assert (order.extension.grant, order.extension.by) == (grant, "carol")
    assert order.extension.expires_at == await expires(desk, new)
    listed = await desk.ok("carol", "GET", "/v1/grants")
    assert listed["items"] == [after]


async def test_a_second_one_goes_on_from_the_first(desk: Desk) -> None:
    """And the history has both, each with its end; an approver may give less."""
    grant = await desk.grant()
    await extended(desk, grant)
    request = await asked(desk, grant, reason="and longer")
    await desk.ok("carol", "POST", f"/v1/requests/{request['id']}/approve", {"duration_s": 60})
    story = await desk.ok("ada", "GET", f"/v1/grants/{grant}")
    assert [(one["duration_s"], one["reason"]) for one in story["extensions"]] == [
        (1_800, MORE["reason"]),
        (60, "and longer"),
    ]
    assert story["extensions"][0]["expires_at"] < story["extensions"][1]["expires_at"] == story["expires_at"]


async def test_four_eyes(desk: Desk) -> None:
    """Its own person asks and nobody else, somebody else decides, and whoever sees neither finds nothing."""
    grant = await desk.grant("root")
    path = f"/v1/grants/{grant}/extensions"
    assert (await desk.call("carol", "POST", path, MORE)).status_code == 403
    assert (await desk.call("bob", "POST", path, MORE)).status_code == 404
    assert (await desk.call("ada", "POST", "/v1/grants/grt_none/extensions", MORE)).status_code == 404
    request = await desk.ok("root", "POST", path, MORE)
    own = await desk.call("root", "POST", f"/v1/requests/{request['id']}/approve", {})
    assert (own.status_code, own.json()["type"]) == (403, "urn:curfew:problem:own-request")
    assert (await desk.call("bob", "POST", f"/v1/requests/{request['id']}/approve", {})).status_code == 404
    assert (await desk.ok("root", "GET", f"/v1/grants/{grant}"))["extensions"] == []


async def test_two_open_ones_of_one_grant_are_refused(desk: Desk) -> None:
    """At the same instant too; once it is decided or withdrawn, another may be asked for."""
    grant = await desk.grant()
    path = f"/v1/grants/{grant}/extensions"
    answers = await asyncio.gather(*(desk.call("ada", "POST", path, MORE) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    made = next(answer.json() for answer in answers if answer.is_success)
    await desk.ok("ada", "POST", f"/v1/requests/{made['id']}/withdraw")
    second = await asked(desk, grant)
    await desk.ok("carol", "POST", f"/v1/requests/{second['id']}/deny")
    await asked(desk, grant)
    assert (await desk.ok("ada", "GET", f"/v1/grants/{grant}"))["extensions"] == []


async def test_an_open_one_ends_with_its_grant(desk: Desk) -> None:
    """Revoked: whoever waits for the decision hears at once. Expired: the same, by the clock."""
    grant = await desk.grant()
    request = await asked(desk, grant)
    waiting = spawn("wait for the decision", desk.ok("ada", "GET", f"/v1/requests/{request['id']}?wait_s=60"))
    await eventually(lambda: f"request:{request['id']}" in desk.services.store.signals._waiting)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "enough"})
    assert (await waiting)["state"] == "expired"
    late = await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
    assert (late.status_code, late.json()["type"]) == (409, "urn:curfew:problem:wrong-state")
    over = await desk.call("ada", "POST", f"/v1/grants/{grant}/extensions", MORE)
    assert (over.status_code, over.json()["type"]) == (409, "urn:curfew:problem:not-active")
    second = await desk.grant()
    request = await asked(desk, second)
    desk.clock.pass_(600)
    assert (await desk.ok("ada", "GET", f"/v1/requests/{request['id']}"))["state"] == "expired"
    assert (await desk.ok("carol", "GET", f"/v1/grants/{second}"))["state"] == "expired"
    assert (await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})).status_code == 409


async def test_a_revoked_grant_stays_so_past_its_new_end(desk: Desk) -> None:
    """What proxies have to remember of the revocation is the end that the extension led to."""
    grant = await desk.grant()
    await extended(desk, grant)
    await desk.ok("carol", "POST", f"/v1/grants/{grant}/revoke", {"reason": "enough"})
    desk.clock.pass_(700)
    [snapshot] = await told(desk, 0, 1)
    assert isinstance(snapshot, Snapshot)
    assert [one.grant for one in snapshot.revoked] == [grant]
    assert snapshot.extended == []


async def test_under_a_lock_it_is_asked_for_and_not_approved(desk: Desk) -> None:
    """As with a first request."""
    grant = await desk.grant()
    lock = await desk.ok("carol", "POST", "/v1/locks", {"person": "ada", "reason": "a leak"})
    request = await asked(desk, grant)
    path = f"/v1/requests/{request['id']}/approve"
    assert (await desk.call("carol", "POST", path, {})).status_code == 423
    await desk.ok("carol", "POST", f"/v1/locks/{lock['id']}/lift")
    assert (await desk.call("carol", "POST", path, {})).is_success


async def test_who_has_lost_the_role_gets_no_more_time(desk: Desk) -> None:
    """Judged when it is approved."""
    grant = await desk.grant()
    request = await asked(desk, grant)
    await desk.ok("root", "PATCH", "/v1/people/ada", {"roles": ["auditor"]})
    refused = await desk.call("carol", "POST", f"/v1/requests/{request['id']}/approve", {})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:curfew:problem:conflict")
    assert (await desk.call("ada", "POST", f"/v1/grants/{grant}/extensions", MORE)).status_code == 403


async def test_the_end_mode_stays(desk: Desk) -> None:
    """An extension moves the end and nothing else, and whoever would like more is told."""
    request = await asked(desk, await desk.grant())
    path = f"/v1/requests/{request['id']}/approve"
    assert (await desk.call("carol", "POST", path, {"end": "finish"})).status_code == 422
    assert (await desk.ok("carol", "GET", f"/v1/requests/{request['id']}"))["state"] == "pending"


async def test_the_keys_of_its_tokens_last_as_long(desk: Desk) -> None:
    """A running session keeps the token that it came with: a key that leaves the set would end it."""
    grant = await desk.grant(duration_s=100)
    old = (await desk.ok("ada", "POST", f"/v1/grants/{grant}/token"))["token"]
    await key_operations.rotate(desk.services, by="test")
    await extended(desk, grant)
    desk.clock.pass_(110)
    await key_operations.rotate(desk.services, by="test")
    newest = next(one for one in reversed(await told(desk, 1, 6)) if isinstance(one, Keys))
    for keys in (newest.jwks, (await desk.call(None, "GET", "/v1/jwks")).text):
        at = desk.clock() / SECOND - 60
        assert verify(old, keys=KeySet.from_jwks(keys), issuer=ISSUER, audience=AUDIENCE, now=at).id == grant
    desk.clock.pass_(1_800)
    keys = (await desk.call(None, "GET", "/v1/jwks")).json()["keys"]
    assert len(keys) < 3, "and no longer"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"duration_s": 60},
        {"reason": "x"},
        MORE | {"duration_s": 0},
        MORE | {"duration_s": -1},
        MORE | {"duration_s": 28_201},
        MORE | {"duration_s": 10**30},
        MORE | {"duration_s": 1.5},
        MORE | {"duration_s": True},
        MORE | {"reason": " "},
        MORE | {"reason": "\x00"},
        MORE | {"reason": "\ud800"},
        MORE | {"surprise": 1},
        [],
        None,
    ],
)
async def test_what_cannot_be_asked_for(desk: Desk, body: Any) -> None:  # noqa: ANN401 any JSON
    """Each is a 422 that says why, and leaves nothing behind."""
    grant = await desk.grant()
    refused = await desk.call("ada", "POST", f"/v1/grants/{grant}/extensions", body)
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["detail"]
    assert not (await desk.ok("root", "GET", "/v1/requests?state=pending"))["items"]
