"""A server that is not what it says: the keeper's password is as safe from it as a session's."""

import struct
from typing import Any

import pytest

from proxy.contract.settings import Keeper as KeeperSettings
from proxy.contract.settings import Secret, Target
from proxy.stop import Keeper
from tests.harness.certs import Authority
from tests.harness.upstream import KEY, OK, PASSWORD, Client, FakeUpstream, Script
from tests.harness.wire import message
from tests.integration.upstream.stage import READY, after_startup, with_scram

ASKS_IN_CLEAR = message("R", struct.pack("!i", 3))
ASKS_FOR_MD5 = message("R", struct.pack("!i4s", 5, b"salt"))
ASKS_NOTHING = message("R", OK) + message("K", KEY) + READY


def read_secret(_: Secret | None) -> str | None:
    """The keeper's password."""
    return PASSWORD


async def heard_by(script: Script, **changed: Any) -> bytes:  # noqa: ANN401 any field of Target
    """What a server that plays `script` hears of a keeper, which must not take it for PostgreSQL."""
    login = KeeperSettings(user="keeper", password=Secret(env="UNUSED"))
    options = {"sslmode": "disable", **changed}
    async with FakeUpstream(script) as rogue:
        keeper = Keeper(
            "orders",
            Target(host="127.0.0.1", port=rogue.port, database="db", keeper=login, access={}, **options),
            read_secret=read_secret,
        )
        await keeper.start()
        assert not keeper.ready
        await keeper.close()
        return b"".join([(await rogue.client()).heard for _ in range(rogue.played)])


@pytest.mark.parametrize("asked", [ASKS_IN_CLEAR, ASKS_FOR_MD5, ASKS_NOTHING], ids=["in clear", "md5", "not at all"])
async def test_asked_otherwise_than_allowed(asked: bytes) -> None:
    """Whoever asks for the password in clear, for a hash of it, or for nothing, hears no more than the user's name."""
    heard = await heard_by(after_startup(asked))
    assert b"keeper" in heard
    assert PASSWORD.encode() not in heard
    assert b"md5" not in heard


async def test_asked_within_tls_of_nobody_in_particular(ca: Authority) -> None:
    """`require` without `ca_file` is TLS with whoever is in the way: the password is not for them either."""
    context = ca.server_context()

    async def script(client: Client) -> None:
        await client.starts_tls(context)
        await client.first_packet()
        client.say(ASKS_IN_CLEAR)

    heard = await heard_by(script, sslmode="require")
    assert b"keeper" in heard
    assert PASSWORD.encode() not in heard


async def test_cheap_proof() -> None:
    """Nor does anybody get a proof of it that is cheap to crack: SCRAM with one iteration."""
    heard = await heard_by(with_scram(iterations="1"))
    assert b"SCRAM-SHA-256" in heard
    assert b",p=" not in heard
