"""A PostgreSQL that has gone mad after the login (PROTOCOL.md, T23): a session may end of it, the process must not."""

import asyncio
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from proxy.contract.record import SessionEnd, decode
from tests.conftest import MakeProxy
from tests.harness import roles
from tests.harness.certs import Authority
from tests.harness.postgres import Cluster
from tests.harness.proxy import Proxy, new_grant_id
from tests.harness.relay import Flow, Relay, Send
from tests.harness.wire import SYNC, Wire, message, one_by_one, query

MARK = b"SAY "
LONG = struct.pack("!I", 2**31 - 1)
ANSWERS = {
    "DataRow of length -1": b"D\xff\xff\xff\xff",
    "DataRow of length 3": b"D\0\0\0\3",
    "DataRow of 2 GB": b"D\x7f\xff\xff\xff",
    "DataRow with a negative column": message("D", b"\0\1\xff\xff\xff\xfe"),
    "DataRow that says more than it has": message("D", b"\xff\xff"),
    "error without a SQLSTATE": message("E", b"SERROR\0Mno code\0\0"),
    "error without its end": message("E", b"SERROR\0VERROR\0C42"),
    "error of nothing": message("E"),
    "error of zeros": message("E", bytes(100)),
    "error that is fatal, and more": message("E", b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0") + message("Z", b"I"),
    "error of a megabyte": message("E", b"SERROR\0M" + b"x" * 2**20 + b"\0\0"),
    "notice of garbage": message("N", b"\xff" * 50),
    "tag without its end": message("C", b"SELECT 1"),
    "tag of nothing": message("C"),
    "tag with a number beyond all": message("C", b"SELECT " + b"9" * 5_000 + b"\0"),
    "tag that is no text": message("C", b"\xff\xfe \xfd\0"),
    "readiness of nothing": message("Z"),
    "readiness of no known state": message("Z", b"Q"),
    "readiness a thousand times": message("Z", b"I") * 1_000,
    "completions that nobody asked for": (message("1") + message("2") + message("3") + message("n")) * 1_000,
    "parameters that it does not list": message("t", b"\xff\xff"),
    "parameters of nothing": message("t"),
    "COPY that nobody asked for": message("G", b"\0\0\0") + message("W", b"\0\0\0") + message("c") + message("d", b"x"),
    "COPY of nothing": message("H"),
    "authentication in the middle": message("R", struct.pack("!i", 3)),
    "a new key": message("K", struct.pack("!ii", 1, 2)),
    "another protocol": message("v", LONG + LONG),
    "a parameter without its end": message("S", b"client_encoding"),
    "a notification of nothing": message("A"),
    "a type that is none": message("\x01", b"x" * 10),
    "noise": bytes(range(256)) * 4,
    "the end": b"",
}


@pytest.fixture(scope="module")
def clear(ca: Authority) -> Iterator[Cluster]:
    """A PostgreSQL that can be reached in clear text, so that somebody in between can speak for it."""
    with Cluster(ca, hba=["host all all 127.0.0.1/32 scram-sha-256"]) as cluster:
        roles.install(cluster)
        yield cluster


async def speak_for_the_server(flow: Flow, send: Send, data: bytes) -> None:
    """Pass on what the client says, but for a query that says what is to be answered."""
    _, mark, wanted = data.partition(MARK)
    if not mark:
        await send(data)
    elif answer := list(ANSWERS.values())[int(wanted[:2])]:
        await flow.link.server.send(answer)
    else:
        flow.link.cut()


async def listen(proxy: Proxy, answer: int, grant: str, *, extended: bool) -> None:
    """Ask for the answer, by a simple query or by a pipeline, take what comes of it for a moment, and leave."""
    sql = f"{MARK.decode()}{answer:02}"
    async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
        await wire.log_in(proxy.token(id=grant))
        wire.send(one_by_one(sql) + SYNC if extended else query(sql))
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.3):
                await wire.bytes_left()


async def test_answers(make_proxy: MakeProxy, clear: Cluster) -> None:
    """Whatever it says: each session's record is whole, and others are served as if nothing were."""
    async with Relay(clear.port, client=[speak_for_the_server]) as rogue:
        target = {"host": "127.0.0.1", "port": rogue.port, "sslmode": "disable"}
        proxy = await asyncio.to_thread(make_proxy, clear, target=target)
        cases = [(answer, new_grant_id(), extended) for answer in range(len(ANSWERS)) for extended in (False, True)]
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as other, asyncio.TaskGroup() as group:
            await other.log_in(proxy.token())
            for answer, grant, extended in cases:
                group.create_task(listen(proxy, answer, grant, extended=extended))
            assert await other.value("SELECT 1") == "1"
        for _, grant, _ in cases:
            assert isinstance(decode((await proxy.session_of(grant))[-1]), SessionEnd)
        async with await Wire.tls(proxy.port, proxy.ca.client_context()) as wire:
            await wire.log_in(proxy.token())
            assert await wire.value("SELECT 2") == "2"
        said = proxy.log()
        await asyncio.to_thread(proxy.close)
    assert "Traceback" not in said
    assert "fault in the relay" not in said
    assert {one.reason for one in proxy.ended()} <= {"client_lost", "upstream", "closed", "protocol"}
