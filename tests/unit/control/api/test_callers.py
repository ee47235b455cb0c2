"""Who calls, and whether they still may."""

from fastapi.security.http import HTTPAuthorizationCredentials

from control.api.callers import standing
from tests.unit.control.desk import Desk


async def test_who_calls_is_asked_again(desk: Desk) -> None:
    """For answers that go on: a key that was taken back, or somebody who was disabled, is nobody any more."""
    key = desk.api_keys["eve"]
    ask = await standing(desk.services, HTTPAuthorizationCredentials(scheme="Bearer", credentials=key))
    found = await ask()
    assert found is not None
    assert found.name == "eve"
    await desk.ok("root", "PATCH", "/v1/people/eve", {"disabled": True})
    assert await ask() is None
    assert await (await standing(desk.services, None))() is None


async def test_a_key_that_was_taken_back(desk: Desk) -> None:
    """Though its person is as before."""
    made = await desk.ok("root", "POST", "/v1/people/eve/keys")
    ask = await standing(desk.services, HTTPAuthorizationCredentials(scheme="Bearer", credentials=made["api_key"]))
    assert await ask() is not None
    await desk.ok("root", "DELETE", f"/v1/people/eve/keys/{made['id']}")
    assert await ask() is None
