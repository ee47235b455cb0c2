"""People and their keys, through the API."""

import pytest

from control.api.limiter import FAILURES
from tests.unit.control.desk import Desk

NEW = {"name": "dan", "full_name": "Dan", "roles": ["requester", "approver"]}


async def test_who_you_are(desk: Desk) -> None:
    """By the key."""
    me = await desk.ok("ada", "GET", "/v1/me")
    assert (me["name"], me["full_name"], me["roles"], me["disabled"]) == ("ada", "Ada", ["requester"], False)


async def test_somebody_new(desk: Desk) -> None:
    """Their key is shown once, works, and is not kept."""
    added = await desk.ok("root", "POST", "/v1/people", NEW)
    assert added["roles"] == ["approver", "requester"]
    desk.api_keys["dan"] = added["api_key"]
    assert (await desk.ok("dan", "GET", "/v1/me"))["name"] == "dan"
    secret = added["api_key"].split("_", 2)[2]
    assert secret.encode() not in desk.services.settings.database.read_bytes()
    listed = await desk.ok("root", "GET", "/v1/people")
    assert [person["name"] for person in listed["items"]] == ["ada", "bob", "carol", "dan", "eve", "root"]
    assert "api_key" not in listed["items"][3]


async def test_people_come_in_pages(desk: Desk) -> None:
    """By name."""
    page = await desk.ok("root", "GET", "/v1/people?limit=3")
    assert (page["next"], len(page["items"])) == ("carol", 3)
    rest = await desk.ok("root", "GET", "/v1/people?limit=3&after=carol")
    assert ([person["name"] for person in rest["items"]], rest["next"]) == (["eve", "root"], None)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"name": "ada"}, 409),
        ({"name": "a/b"}, 422),
        ({"name": ""}, 422),
        ({"name": "x" * 64}, 422),
        ({"name": "a\0b"}, 422),
        ({"name": "\ud800"}, 422),
        ({"roles": ["king"]}, 422),
        ({"full_name": "x" * 201}, 422),
        ({"more": 1}, 422),
    ],
)
async def test_who_cannot_be_added(desk: Desk, changed: dict[str, object], status: int) -> None:
    """Names that are taken, or that PostgreSQL would not keep whole."""
    assert (await desk.call("root", "POST", "/v1/people", NEW | changed)).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/people", None),
        ("POST", "/v1/people", NEW),
        ("PATCH", "/v1/people/ada", {"disabled": True}),
        ("POST", "/v1/people/ada/keys", None),
        ("DELETE", "/v1/people/ada/keys/x", None),
        ("GET", "/v1/keys", None),
        ("POST", "/v1/keys/rotate", None),
        ("POST", "/v1/proxies/join-tokens", None),
    ],
)
async def test_what_only_admins_do(desk: Desk, method: str, path: str, body: object) -> None:
    """Nobody else, whatever they are."""
    for who in ("ada", "carol", "eve"):
        assert (await desk.call(who, method, path, body)).status_code == 403
    assert (await desk.call(None, method, path, body)).status_code == 401


async def test_a_key_of_ones_own(desk: Desk) -> None:
    """One more, then the first is revoked; a second time is no fault, and another's key is not found."""
    first = desk.api_keys["ada"]
    made = await desk.http.post("/v1/people/ada/keys", headers={"authorization": f"Bearer {desk.api_keys['root']}"})
    assert made.status_code == 201
    desk.api_keys["ada"] = made.json()["api_key"]
    key_id = first.split("_")[1]
    for _ in range(2):
        assert (await desk.call("root", "DELETE", f"/v1/people/ada/keys/{key_id}")).status_code == 204
    assert (await desk.call("root", "DELETE", f"/v1/people/bob/keys/{key_id}")).status_code == 404
    assert (await desk.ok("ada", "GET", "/v1/me"))["name"] == "ada"
    desk.api_keys["ada"] = first
    assert (await desk.call("ada", "GET", "/v1/me")).status_code == 401


async def test_somebody_disabled_is_out(desk: Desk) -> None:
    """Their key is worth nothing and their grants are revoked; enabled again they are back, the grants are not."""
    active, over = await desk.grant(), await desk.grant(duration_s=1)
    desk.clock.pass_(1)
    assert (await desk.ok("root", "PATCH", "/v1/people/ada", {"disabled": True}))["disabled"]
    assert (await desk.call("ada", "GET", "/v1/me")).status_code == 401
    grants = {grant["id"]: grant for grant in (await desk.ok("root", "GET", "/v1/grants"))["items"]}
    assert (grants[active]["state"], grants[active]["revoked_by"]) == ("revoked", "root")
    assert grants[over]["state"] == "expired"
    await desk.ok("root", "PATCH", "/v1/people/ada", {"disabled": False})
    assert (await desk.ok("ada", "GET", f"/v1/grants/{active}"))["state"] == "revoked"


async def test_one_admin_always_remains(desk: Desk) -> None:
    """Nobody changes themselves, and there is nobody who is not there."""
    assert (await desk.call("root", "PATCH", "/v1/people/root", {"roles": []})).status_code == 403
    assert (await desk.call("root", "PATCH", "/v1/people/nobody", {"roles": []})).status_code == 404
    assert (await desk.call("root", "POST", "/v1/people/nobody/keys")).status_code == 404


async def test_every_bad_key_has_the_same_answer(desk: Desk) -> None:
    """Unknown id, wrong secret, no key at all, another scheme: nobody can tell which."""
    good = desk.api_keys["ada"]
    key_id = good.split("_")[1]
    bad = [
        None,
        "",
        "Bearer",
        "Bearer x",
        f"Bearer cfk_{key_id}_{'A' * 43}",
        f"Bearer cfk_{'0' * 12}_{good.split('_', 2)[2]}",
        f"Bearer {good}x",
        f"Basic {good}",
        "Bearer cfk_\xff_\xff",
    ]
    answers = set()
    for value in bad:
        headers = {} if value is None else {b"authorization": value.encode("latin-1")}
        answer = await desk.http.get("/v1/me", headers=headers)
        answers.add((answer.status_code, answer.headers["www-authenticate"], answer.text))
    assert len(answers) == 1
    assert {(status, scheme) for status, scheme, _ in answers} == {(401, "Bearer")}


async def test_trying_on_has_a_cost(desk: Desk) -> None:
    """429 from the twentieth failure on; a good key passes all the same."""
    statuses = [(await desk.call(None, "GET", "/v1/me")).status_code for _ in range(FAILURES + 2)]
    assert statuses == [401] * FAILURES + [429] * 2
    refused = await desk.call(None, "GET", "/v1/me")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert (await desk.call("ada", "GET", "/v1/me")).status_code == 200
