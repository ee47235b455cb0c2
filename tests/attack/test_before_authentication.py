"""What the proxy says before AuthenticationOk: nothing but R, E and v, and nothing that libpq would drop as too long.

libpq ends a connection on anything else there, a notice included, and on an R of more than 2,000 bytes or an E of more
than 30,000 (PQconnectPoll in fe-connect.c). Rows 31 and 32 of PROTOCOL.md.
"""

import struct

import pytest

from tests.attack.opening import WHO
from tests.harness.proxy import Proxy
from tests.harness.wire import PROTOCOL_3_2, Message, Wire, message, startup

MOST_R, MOST_E = 2_000, 30_000
"""Lengths as the length word has them."""
OK = struct.pack("!i", 0)
LONG = "ä\u202e\x1b[2J" * 1_000
"""As long as a startup packet has room for, with what a terminal obeys."""

HOSTILE: dict[str, bytes] = {
    "a long user": startup(("user", LONG), ("database", "orders")),
    "a long database": startup(("user", "dba1"), ("database", LONG)),
    "a long value": startup(*WHO, ("replication", LONG)),
    "a long name": startup(*WHO, (LONG, "1")),
    "long options": startup(*WHO, ("options", LONG)),
    "many options": startup(*WHO, *((f"_pq_.{n}", "") for n in range(140)), version=PROTOCOL_3_2),
    "another version": startup(*WHO, version=0x40000),
    "a long user of another version": startup(("user", LONG), version=0x20000),
    "no end": startup(*WHO)[:-1] + b"x",
    "the person's settings": startup(*WHO, ("curfew.person", LONG)),
    "a replication that is not granted": startup(("user", "dba1"), ("database", "x" * 9_000), ("replication", "true")),
}


def before(said: list[Message]) -> list[Message]:
    """What came before AuthenticationOk; all of it, where that never came."""
    ends = [number for number, one in enumerate(said) if (one.kind, one.body) == ("R", OK)]
    return said[: ends[0]] if ends else said


def assert_fit_for_libpq(said: list[Message]) -> None:
    """Kinds and lengths of what came before AuthenticationOk."""
    assert said
    for one in before(said):
        assert one.kind in "REv"
        assert 4 + len(one.body) <= {"R": MOST_R, "E": MOST_E, "v": MOST_R}[one.kind]


@pytest.mark.parametrize("token", ["good", "bad", "long"])
@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_openings(proxy: Proxy, packet: bytes, token: str) -> None:
    """Whatever is asked, with whatever token, libpq could read the answer."""
    tokens = {"good": proxy.token(), "bad": LONG, "long": "x" * 65_000}
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        wire.send(packet + message("p", tokens[token].encode() + b"\0") + message("X"))
        assert_fit_for_libpq(await wire.rest())


async def test_notices_wait(proxy: Proxy) -> None:
    """PostgreSQL's own notices of a session's start come behind AuthenticationOk, where libpq takes them."""
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        said = await wire.log_in(proxy.token(), *WHO, ("options", "-c client_min_messages=debug5"))
        assert any(one.kind == "N" for one in said)
        assert [one.kind for one in before(said)] == ["R"]
        assert_fit_for_libpq(said)
