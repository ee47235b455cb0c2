"""The key ring through the API."""

import json

from control.api.keys import JWK_SET
from control.operations import keys
from control.store import directives
from control.times import SECOND
from proxy.contract.token import KeySet, verify
from tests.unit.control.desk import AUDIENCE, ISSUER, Desk


async def kids(desk: Desk) -> list[str]:
    """The key ids in the JWK set."""
    return [key["kid"] for key in (await desk.call(None, "GET", "/v1/jwks")).json()["keys"]]


async def token(desk: Desk, grant: str) -> str:
    """A token."""
    text: str = (await desk.ok("ada", "POST", f"/v1/grants/{grant}/token"))["token"]
    return text


async def takes(desk: Desk, text: str) -> bool:
    """Whether a proxy with the JWK set of now takes the token."""
    key_set = KeySet.from_jwks((await desk.call(None, "GET", "/.well-known/jwks.json")).text)
    try:
        verify(text, keys=key_set, issuer=ISSUER, audience=AUDIENCE, now=desk.clock() / SECOND)
    except Exception:  # noqa: BLE001 whatever the reason
        return False
    return True


async def test_the_jwk_set_is_public(desk: Desk) -> None:
    """Its two addresses say the same."""
    one, other = await desk.call(None, "GET", "/v1/jwks"), await desk.call(None, "GET", "/.well-known/jwks.json")
    assert one.content == other.content
    assert one.headers["content-type"] == JWK_SET
    assert "d" not in one.json()["keys"][0]


async def test_a_rotation_never_breaks_a_token(desk: Desk) -> None:
    """Announced, then current; the old key stays for as long as its tokens do, and is gone with the next rotation."""
    grant = await desk.grant(duration_s=600)
    (old,) = await kids(desk)
    before = await token(desk, grant)
    rotated = await desk.ok("root", "POST", "/v1/keys/rotate")
    assert (rotated["state"], await kids(desk)) == ("announced", [old, rotated["kid"]])
    assert (await token(desk, grant)).split(".")[0] == before.split(".")[0]
    desk.clock.pass_(10)
    after = await token(desk, grant)
    assert after.split(".")[0] != before.split(".")[0]
    assert await takes(desk, before)
    assert await takes(desk, after)
    states = [key["state"] for key in (await desk.ok("root", "GET", "/v1/keys"))["items"]]
    assert states == ["retired", "current"]
    desk.clock.pass_(600)
    assert await kids(desk) == [rotated["kid"]]
    assert len(list(desk.services.settings.keys.iterdir())) == 2
    await desk.ok("root", "POST", "/v1/keys/rotate")
    assert not (desk.services.settings.keys / f"{old}.pem").exists()
    assert len(list(desk.services.settings.keys.iterdir())) == 2


async def test_a_compromised_key_is_gone_at_once(desk: Desk) -> None:
    """With the tokens that it signed; the new one signs at once."""
    grant = await desk.grant()
    stolen = await token(desk, grant)
    rotated = await desk.ok("root", "POST", "/v1/keys/rotate", {"compromised": True})
    assert await kids(desk) == [rotated["kid"]]
    assert not await takes(desk, stolen)
    assert await takes(desk, await token(desk, grant))
    assert [file.name for file in desk.services.settings.keys.iterdir()] == [f"{rotated['kid']}.pem"]


async def test_a_key_set_that_another_process_rotated(desk: Desk) -> None:
    """The books say which key signs, and the ring finds it."""
    grant = await desk.grant()
    other = type(desk.services.ring)(desk.services.settings.keys)
    object.__setattr__(desk.services, "ring", other)
    await keys.rotate(desk.services, by="the command")
    desk.clock.pass_(10)
    assert await takes(desk, await token(desk, grant))


async def test_every_rotation_is_told_to_the_proxies(desk: Desk) -> None:
    """As a directive with the whole set."""
    rotated = await desk.ok("root", "POST", "/v1/keys/rotate")
    async with desk.services.store.read() as tx:
        told = (await directives.after(tx, 0, 10))[-1]
    assert rotated["kid"] in [key["kid"] for key in json.loads(told.jwks)["keys"]]  # type: ignore[union-attr] # Keys
