"""Which grant `connect` takes."""

from datetime import UTC, datetime

import httpx2
import pytest

from control.client.answers import Grant, Request, read
from control.client.connect import Wanted, _pending, choose
from control.client.errors import ClientError
from tests.unit.control.client.test_api import api

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ORDERS = Wanted(target="orders")


def grant(name: str = "grt_1", /, **changes: object) -> Grant:
    """An active grant of dba1 on orders as readonly until one o'clock, with changes."""
    plain: dict[str, object] = {
        "id": name,
        "person": "dba1",
        "target": "orders",
        "profile": "readonly",
        "state": "active",
        "databases": ["*"],
        "expires_at": "2026-11-22T13:00:00Z",
    }
    return read(Grant, plain | changes)


def chosen(*candidates: Grant, wanted: Wanted = ORDERS) -> str | None:
    """The id of the grant that is chosen."""
    found = choose(list(candidates), wanted, person="dba1", now=NOW)
    return found.id if found else None


def test_the_grant_that_ends_last_is_taken() -> None:
    """There is the most time on it."""
    assert chosen(grant("a"), grant("b", expires_at="2026-11-22T14:00:00Z"), grant("c")) == "b"


@pytest.mark.parametrize(
    "change",
    [
        {"person": "carol"},
        {"target": "billing"},
        {"state": "revoked"},
        {"expires_at": "2026-11-22T12:00:00Z"},
    ],
)
def test_what_would_be_refused_is_not_taken(change: dict[str, object]) -> None:
    """Another person's, another target's, one that has ended."""
    assert chosen(grant("grt_1", **change)) is None


def test_profile_and_database_are_held_to() -> None:
    """Where they are said; a grant on all databases serves for each."""
    assert chosen(grant(), wanted=Wanted(target="orders", profile="dba")) is None
    assert chosen(grant(databases=["shop"]), wanted=Wanted(target="orders", database="hr")) is None
    assert chosen(grant(databases=["shop"]), wanted=Wanted(target="orders", database="shop")) == "grt_1"
    assert chosen(grant(), wanted=Wanted(target="orders", database="hr")) == "grt_1"


def test_rights_are_never_guessed() -> None:
    """Grants with different profiles: the person says which."""
    with pytest.raises(ClientError, match="as dba and as readonly"):
        chosen(grant(), grant(profile="dba"))


def test_an_open_extension_is_no_request_to_wait_for() -> None:
    """It is for another grant's time: where that is over by our clock, it would end in the very same grant."""
    one: dict[str, str | None] = {
        "id": "req_1",
        "person": "me",
        "target": "orders",
        "profile": "dba",
        "state": "pending",
    }

    def answer(extends: str | None) -> Request | None:
        def handler(request: httpx2.Request) -> httpx2.Response:
            mine = {"name": "me"} if request.url.path.endswith("/me") else {"items": [one | {"extends": extends}]}
            return httpx2.Response(200, json=mine)

        return _pending(api(handler), Wanted(target="orders", profile="dba"))

    assert answer("grt_1") is None
    assert answer(None) is not None
