"""Protocol 3.0 and 3.2 towards PostgreSQL: what is asked for, and which answers are taken."""

import struct

import pytest

from tests.harness.upstream import KEY, OK, FakeUpstream
from tests.harness.wire import message
from tests.integration.upstream.stage import (
    PARAMETERS,
    PROFILE,
    READY,
    STARTUP,
    after_startup,
    connect,
    dialler_for,
    refused_by,
)


@pytest.mark.parametrize(("version", "secret"), [("3.2", 4), ("3.2", 32), ("3.2", 256), ("3.0", 4)])
async def test_what_is_asked_for_is_spoken(version: str, secret: int) -> None:
    """The startup packet asks for the configured version; in 3.2 a key's secret has 4 to 256 bytes."""
    key = struct.pack("!i", -5) + bytes(secret)
    async with FakeUpstream(after_startup(message("R", OK), message("K", key), READY)) as rogue:
        connected = await dialler_for(rogue, max_protocol_version=version).connect(PROFILE, STARTUP)
        connected.leg.transport.abort()
        heard = (await rogue.client()).heard
    assert heard[4:8] == {"3.0": b"\0\3\0\0", "3.2": b"\0\3\0\2"}[version]
    assert (connected.pid, connected.secret) == (-5, bytes(secret))


async def test_older_protocol() -> None:
    """A server that knows 3.0 alone says so, and goes on with it; the client is told nothing of it."""
    older = message("v", struct.pack("!ii", 0x30000, 0))
    connected = await connect(after_startup(older, message("R", OK), PARAMETERS, message("K", KEY), READY))
    assert connected.secret == KEY[4:]
    assert connected.announcement == PARAMETERS


@pytest.mark.parametrize(
    ("negotiation", "version"),
    [
        (struct.pack("!ii", 0x30002, 0), "3.2"),  # what was asked for: nothing to negotiate
        (struct.pack("!ii", 0x30000, 0), "3.0"),
        (struct.pack("!ii", 0x30001, 0), "3.2"),  # reserved
        (struct.pack("!ii", 0x30003, 0), "3.2"),
        (struct.pack("!ii", 0x30002, 0), "3.0"),
        (struct.pack("!ii", 0x20000, 0), "3.2"),
        (struct.pack("!ii", 0x40000, 0), "3.2"),
        (struct.pack("!ii", 0, 0), "3.2"),
        (struct.pack("!ii", 0x30000, 1) + b"_pq_.x\0", "3.2"),  # nobody asked for it
        (struct.pack("!ii", 0x30000, -1), "3.2"),
        (struct.pack("!i", 0x30000), "3.2"),
        (b"", "3.2"),
    ],
    ids=range(12),
)
async def test_negotiations_that_cannot_be(negotiation: bytes, version: str) -> None:
    """Libpq's conditions: an older version of ours, and no option that was never sent."""
    script = after_startup(message("v", negotiation), message("R", OK), message("K", KEY), READY)
    text, _ = await refused_by(script, max_protocol_version=version)
    assert "protocol" in text


async def test_long_secret_in_the_older_protocol() -> None:
    """3.0 has room for 4 bytes: whoever sends more counts messages otherwise than we do."""
    older = message("v", struct.pack("!ii", 0x30000, 0))
    text, _ = await refused_by(after_startup(older, message("R", OK), message("K", KEY + bytes(28)), READY))
    assert "key of 36 bytes in protocol 3.0" in text
