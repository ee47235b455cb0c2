"""What tests of a login share: a rogue server and the dialler towards it, the honest script, a refusal's check."""

import time
from typing import Any

import pytest

from proxy.contract.settings import AccessProfile, Keeper, Secret, Target
from proxy.upstream import Connected, Dialler, UpstreamError
from tests.harness.roles import Login
from tests.harness.upstream import KEY, OK, PASSWORD, Client, FakeUpstream, Script
from tests.harness.wire import message

TRUSTED = Login(user="curfew_trusted", password="not asked for")
CLEAR = Login(user="curfew_clear", password="sent in clear")
MD5 = Login(user="curfew_md5", password="hashed weakly")
BY_CERTIFICATE = Login(user="curfew_certified", password="never used")
BY_BOTH = Login(user="curfew_both", password="and a certificate")
"""What `odd_postgres` asks for other things than SCRAM, or for more."""
NEUTRAL = "the database cannot be reached through this proxy"
PROFILE = AccessProfile(user="app")
STARTUP = [(b"user", b"app"), (b"database", b"db")]
PARAMETERS = message("S", b"weird\0\xff\x01 value\0") + message("N", b"SWARNING\0C01000\0Mhello\0\0")
READY = message("Z", b"I")
HONEST_BYTES = 231
"""What `honest` says, all in all."""


def dialler_for(rogue: FakeUpstream, *, password: str | None = PASSWORD, **changed: Any) -> Dialler:  # noqa: ANN401 any field of Target
    """A dialler towards it; plain text unless changed, and content to be let in without being asked."""
    fields = {
        "sslmode": "disable",
        "connect_timeout_s": 3.0,
        "require_auth": ["scram-sha-256", "none"],
        **changed,
    }
    target = Target(
        host="127.0.0.1", port=rogue.port, database="db", keeper=Keeper(user="k"), access={"app": PROFILE}, **fields
    )

    def read_secret(_: Secret | None) -> str | None:
        return password

    return Dialler("orders", target, read_secret=read_secret)


def refused(error: UpstreamError, *secrets: str) -> str:
    """Check that the client learns nothing of why; the log's text."""
    assert error.sqlstate == "08006"
    assert error.public == NEUTRAL
    for secret in secrets:
        assert secret not in str(error)
        assert secret not in repr(error)
    return str(error)


async def refused_by(script: Script, *, within_s: float = 2.0, **changed: Any) -> tuple[str, bytes]:  # noqa: ANN401 as dialler_for
    """Play the script: the login fails, with nothing for the client in it. The log's text, and all the server heard."""
    async with FakeUpstream(script) as rogue:
        before = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            await dialler_for(rogue, **changed).connect(PROFILE, STARTUP)
        assert time.monotonic() - before < within_s
        heard = (await rogue.client()).heard
    assert PASSWORD.encode() not in heard
    return refused(caught.value, PASSWORD), heard


async def connect(script: Script, **changed: Any) -> Connected:  # noqa: ANN401 as dialler_for
    """Play the script to a login that succeeds."""
    async with FakeUpstream(script) as rogue:
        connected = await dialler_for(rogue, **changed).connect(PROFILE, STARTUP)
        connected.leg.transport.abort()
        await rogue.client()
        return connected


async def honest(client: Client) -> None:
    """A login as it should be."""
    await client.first_packet()
    await client.scram()
    client.say(message("R", OK), PARAMETERS, message("K", KEY), READY)


def after_startup(*messages: bytes) -> Script:
    """A server that says these after the startup packet, whatever it is answered."""

    async def script(client: Client) -> None:
        await client.first_packet()
        client.say(*messages)

    return script


def with_scram(**changed: Any) -> Script:  # noqa: ANN401 any argument of Client.scram
    """The honest login with one part of SCRAM changed."""

    async def script(client: Client) -> None:
        await client.first_packet()
        await client.scram(**changed)
        client.say(message("R", OK), PARAMETERS, message("K", KEY), READY)

    return script
