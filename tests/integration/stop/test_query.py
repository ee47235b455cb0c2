"""The proxy's own questions: values there and back, refusals, and servers that answer what nobody would."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.query import SETTINGS, Connection, LostError, QueryError, array
from tests.harness import roles
from tests.harness.postgres import Cluster
from tests.harness.upstream import Client, FakeUpstream
from tests.harness.waiting import eventually
from tests.harness.wire import message
from tests.integration.upstream.stage import PROFILE, READY, STARTUP, dialler_for, honest
from tests.integration.upstream.targets import dialler_of, profile_of

DONE = message("1", b"") + message("2", b"") + message("C", b"SELECT 1\0") + READY


@asynccontextmanager
async def opened(postgres: Cluster, folder: Path) -> AsyncIterator[Connection]:
    """A connection of APP's, as the keeper's are made."""
    named = [(b"user", roles.APP.user.encode()), (b"database", b"postgres")]
    dialler, profile = dialler_of(postgres, folder), profile_of(roles.APP, folder)
    connection = Connection(await dialler.log_in(profile, [*named, *SETTINGS]), on_end=lambda: None)
    yield connection
    connection.close()


@asynccontextmanager
async def facing(*answers: bytes, ends: Callable[[], None] = lambda: None) -> AsyncIterator[Connection]:
    """A connection to a server that gives these answers to what it is asked, then is silent."""

    async def script(client: Client) -> None:
        await honest(client)
        for number, answer in enumerate(answers):
            for _ in "BES" if number else "PBES":
                await client.answer()
            client.say(answer)

    async with FakeUpstream(script) as rogue:
        connection = Connection(await dialler_for(rogue).log_in(PROFILE, STARTUP), on_end=ends)
        yield connection
        connection.close()
        await rogue.client()


def row(*columns: bytes, lengths: tuple[int, ...] = ()) -> bytes:
    """A DataRow, with other `lengths` than its columns have."""
    sized = zip(columns, lengths or map(len, columns), strict=True)
    body = b"".join(struct.pack("!i", length) + column for column, length in sized)
    return message("D", struct.pack("!H", len(columns)) + body)


async def test_values(postgres: Cluster, tmp_path: Path) -> None:
    """Texts, NULLs and arrays arrive as what they are, whatever is in them."""
    odd = ["", "NULL", 'a "quoted" \\ one', "{1,2}", "Zoë, 山", " spaced ", "it's\na line"]
    async with opened(postgres, tmp_path) as connection:
        for text in [*odd, None]:
            assert await connection.fetch("SELECT $1::text, NULL, 7", text, timeout_s=3) == [(text, None, "7")]
        rows = await connection.fetch("SELECT unnest($1::text[])", array(odd), timeout_s=3)
        assert [one for (one,) in rows] == odd
        assert await connection.fetch("SELECT $1::int4[]", array([]), timeout_s=3) == [("{}",)]
        assert await connection.fetch("SELECT true, false", timeout_s=3) == [("t", "f")]
        assert await connection.fetch("", timeout_s=3) == []


@pytest.mark.parametrize("microseconds", [0, 1, 120_000, 999_999])
async def test_times(postgres: Cluster, tmp_path: Path, microseconds: int) -> None:
    """A time is read as it is, whatever the role's own taste in dates and zones."""
    at = datetime(2026, 11, 22, 1, 44, 0, microseconds, tzinfo=UTC)
    postgres.psql(f"ALTER ROLE {roles.APP.user} SET datestyle = 'German'")
    postgres.psql(f"ALTER ROLE {roles.APP.user} SET timezone = 'Asia/Kathmandu'")
    try:
        async with opened(postgres, tmp_path) as connection:
            ((text,),) = await connection.fetch("SELECT $1::timestamptz", str(at), timeout_s=3)
    finally:
        postgres.psql(f"ALTER ROLE {roles.APP.user} RESET ALL")
    assert text is not None
    assert datetime.fromisoformat(text) == at


async def test_refused_statements(postgres: Cluster, tmp_path: Path) -> None:
    """An error has its SQLSTATE, wherever in the statement it comes up, and the next question is answered."""
    async with opened(postgres, tmp_path) as connection:
        for sql, sqlstate in (("nonsense", "42601"), ("SELECT 1 / $1::int4", "22012"), ("SELECT 1", "08P01")):
            with pytest.raises(QueryError) as caught:
                await connection.fetch(sql, *["0"] * (sql != "nonsense"), timeout_s=3)
            assert caught.value.sqlstate == sqlstate
            assert await connection.fetch("SELECT 5", timeout_s=3) == [("5",)]


async def test_ended_by_the_server(postgres: Cluster, tmp_path: Path) -> None:
    """What it said at last is told, to who is waiting and to whoever asks later."""
    async with opened(postgres, tmp_path) as connection:
        with pytest.raises(LostError, match="terminating connection due to administrator command"):
            await connection.fetch("SELECT pg_terminate_backend($1::int4)", str(connection.pid), timeout_s=3)
        with pytest.raises(LostError, match="administrator command"):
            await connection.fetch("SELECT 1", timeout_s=3)


async def test_ended_while_nobody_asks(postgres: Cluster, tmp_path: Path) -> None:
    """Whoever holds the connection hears of its end at once, and only once."""
    ends: list[None] = []
    async with facing(ends=lambda: ends.append(None)) as connection:
        assert connection.lost is None
        connection.close()
        await asyncio.sleep(0)
    assert len(ends) == 1
    async with opened(postgres, tmp_path) as connection:
        await postgres.sql("SELECT pg_terminate_backend($1)", connection.pid)
        await eventually(lambda: connection.lost)


ROTTEN = {
    "a column longer than its row": row(b"x", lengths=(2,)) + DONE,
    "a column of a negative length": row(b"x", lengths=(-2,)) + DONE,
    "a row longer than its columns": message("D", struct.pack("!H", 0) + b"more") + DONE,
    "a row cut in a length": message("D", struct.pack("!H", 2) + b"\0") + DONE,
    "a row without a count": message("D", b"") + DONE,
    "text that is none": row(b"\xff") + DONE,
    "a length below its own": b"Z\0\0\0\3",
    "a negative length": b"D\xff\xff\xff\xff",
    "a message beyond all bounds": b"D\x7f\xff\xff\xff",
    "COPY": message("G", b"\0\0\0") + READY,
    "another authentication": message("R", struct.pack("!i", 3)),
    "an answer twice": DONE + DONE,
    "rows without end": row(b"x" * 60_000) * 100,
    "notices without end": message("N", b"x" * 60_000) * 100,
}


@pytest.mark.parametrize("answer", ROTTEN.values(), ids=ROTTEN)
async def test_rotten_answers(answer: bytes) -> None:
    """The connection is lost with the first message that PostgreSQL would not have sent, and nothing is made of it."""
    async with facing(answer) as connection:
        with suppress(LostError):
            assert await connection.fetch("SELECT 1", timeout_s=3) == []  # the one that was answered twice
        with pytest.raises(LostError):
            await connection.fetch("SELECT 1", timeout_s=3)
        assert "no answer within" not in (connection.lost or "")


async def test_what_comes_unasked() -> None:
    """Notices and parameters come when they like; a row that nobody asked for loses the connection."""
    async with facing(message("N", b"\0") + message("S", b"a\0b\0") + DONE) as connection:
        assert await connection.fetch("SELECT 1", timeout_s=3) == []
    async with facing(DONE + row(b"1")) as connection:
        assert await connection.fetch("SELECT 1", timeout_s=3) == []
        await eventually(lambda: connection.lost)


async def test_silence() -> None:
    """No answer in time is a lost connection: one that came late would be taken for the next question's."""
    async with facing() as connection:
        with pytest.raises(LostError, match=r"no answer within 0\.05 s"):
            await connection.fetch("SELECT 1", timeout_s=0.05)
        with pytest.raises(LostError, match="no answer within"):
            await connection.fetch("SELECT 1", timeout_s=3)


async def test_a_question_given_up() -> None:
    """A caller that is cancelled takes the connection with it, for the same reason."""
    async with facing() as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.fetch("SELECT 1", timeout_s=3)
        assert connection.lost is not None
