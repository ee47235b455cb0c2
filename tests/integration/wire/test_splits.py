"""A message may come in any pieces (PROTOCOL.md, rows 13 and 60): the same bytes go out, and the same is recorded."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from proxy.contract.record import SessionEnd, decode
from tests.harness.certs import Authority
from tests.harness.digest import Tapped, tapped
from tests.harness.postgres import Cluster
from tests.harness.relay import Flow, Relay, Send, chop, split_at
from tests.harness.waiting import eventually, eventually_sync
from tests.harness.wire import PROTOCOL_3_2, Wire, cancel_request, query
from tests.integration.wire import replay
from tests.integration.wire.conftest import DATABASE
from tests.integration.wire.sessions import SESSIONS, Script

LOGIN = (1_200, 41)
"""Up to where a session is split, and how often: far behind the login in every direction."""


@pytest.fixture(scope="module")
def recording(legs: Tapped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each session said on PostgreSQL's side of a proxy, in turns."""
    path = tmp_path_factory.mktemp("recording") / "sessions.json"
    sessions: dict[str, replay.Turns] = {}
    for name, script in SESSIONS.items():
        asyncio.run(converse(legs.port, legs.proxy.token(), script))
        assert legs.differences() == []
        sessions[name] = legs.upstream.of(legs.client.sessions[-1].pid).turns
    replay.write(sessions, path)
    return path


async def converse(port: int, token: str, script: Script, tls: ssl.SSLContext | None = None) -> None:
    """Have one session."""
    async with await (Wire.tls(port, tls) if tls else Wire.plain(port)) as wire:
        await wire.log_in(token)
        await script(wire)


def replayed(recording: Path, framer: str) -> replay.Report:
    """What one twin makes of it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.wire.replay", str(recording)],
        env={**os.environ, "CURFEW_FRAMER": framer},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=replay.Report)


def test_every_offset(recording: Path) -> None:
    """Both twins, both sides: wherever a session is cut, all is as in one piece, and the twins agree."""
    pytest.importorskip("proxy.wire._framing", exc_type=ImportError)
    compiled, plain = replayed(recording, "cython"), replayed(recording, "python")
    assert (compiled.implementation, plain.implementation) == ("cython", "python")
    assert compiled.differences == plain.differences == []
    assert compiled.outcomes == plain.outcomes
    assert compiled.replays == plain.replays > 5_000
    assert all(one.records for one in compiled.outcomes.values())


# Through a whole proxy, to a real PostgreSQL.


def test_single_bytes(clear: Cluster, legs: Tapped, ca: Authority, tmp_path: Path) -> None:
    """Each byte by itself, in all four directions, the logins too."""
    with tapped(clear, ca, tmp_path, between=[chop()], database=DATABASE) as chopped:
        for name in ("simple queries", "a pipeline with errors", "COPY in"):
            for way in (legs, chopped):
                asyncio.run(converse(way.port, way.proxy.token(), SESSIONS[name]))
            assert chopped.differences() == [], name
            assert recorded(chopped) == recorded(legs), name


def test_single_bytes_over_tls(clear: Cluster, legs: Tapped, ca: Authority, tmp_path: Path) -> None:
    """Over TLS each byte is a TLS record of its own, on both legs."""
    with tapped(clear, ca, tmp_path, between=[chop()], encrypted=True, database=DATABASE) as chopped:
        asyncio.run(converse(legs.port, legs.proxy.token(), SESSIONS["a portal in parts"]))
        tls = ca.client_context()
        asyncio.run(converse(chopped.port, chopped.proxy.token(), SESSIONS["a portal in parts"], tls))
        assert chopped.differences() == []
        assert recorded(chopped) == recorded(legs)


def test_a_split_anywhere(clear: Cluster, ca: Authority, tmp_path: Path) -> None:
    """At every so many bytes of all four directions, the logins too; what is behind is sent when the rest was read."""
    offset = 0

    async def cut(flow: Flow, send: Send, data: bytes) -> None:
        await split_at(offset)(flow, send, data)

    with tapped(clear, ca, tmp_path, between=[cut], database=DATABASE) as legs:
        expected: list[list[str]] = []
        for offset in range(*LOGIN):
            asyncio.run(converse(legs.port, legs.proxy.token(), SESSIONS["a prepared statement"]))
            assert legs.differences() == [], offset
            expected.append(recorded(legs))
        assert [one for one in expected if one != expected[0]] == []
        sizes = [stream.count for heard in legs.client.sessions for stream in (heard.client, heard.server)]
        assert set(sizes) == set(sizes[:2])


def recorded(legs: Tapped) -> list[str]:
    """What the last session's statements left in the journal."""

    def ended() -> list[bytes]:
        lines = legs.proxy.sessions()[list(legs.proxy.sessions())[-1]]
        return lines if isinstance(decode(lines[-1]), SessionEnd) else []

    lines = tuple(replay.lasting(line) for line in eventually_sync(ended)[1:-1])
    return [line for line in lines if '"portal"' not in line]


SLEEPS = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"


async def test_a_split_cancel(legs: Tapped) -> None:
    """A CancelRequest with protocol 3.2's long key, in two pieces: it still finds its statement."""
    who = (("user", "dba1"), ("database", "orders"))
    async with await Wire.plain(legs.port) as wire:
        await wire.log_in(legs.proxy.token(), *who, version=PROTOCOL_3_2)
        request = cancel_request(wire.pid, wire.secret)
        assert len(request) == 12 + 32
        for offset in range(1, len(request), 6):
            wire.send(query("SELECT pg_sleep(60)"))
            # A cancel that is quicker than the statement hits nobody, as without a proxy.
            await eventually(lambda: legs.proxy.cluster.sql(SLEEPS, wire.pid))
            async with (
                Relay(legs.proxy.port, client=[split_at(offset)]) as relay,
                await Wire.plain(relay.port) as asking,
            ):
                asking.send(request)
                assert await asking.bytes_left() == b""
            assert [one.fields["C"] for one in await wire.until("Z") if one.kind == "E"] == ["57014"]
