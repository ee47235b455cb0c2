"""The shortcut writes the very lines that framers, tracker and recorder write, and leaves the session as they do.

Every conversation here is played to two relays, one of which has no shortcut; the clocks stand still.
"""

import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import proxy.leg
import proxy.relay
from proxy.contract import chain
from proxy.contract.record import Notice
from proxy.contract.settings import Parameters
from proxy.errors import JournalFailed
from proxy.wire import messages
from proxy.wire.framing import IMPLEMENTATION
from tests.unit.proxy.journals import stored
from tests.unit.proxy.stand import Stand
from tests.unit.proxy.wire import playbook as say
from tests.unit.proxy.wire.model import Model
from tests.unit.proxy.wire.reference import message
from tests.unit.proxy.wire.test_tracker_model import Author

if IMPLEMENTATION != "cython":
    pytest.skip("there is no shortcut without a compiler", allow_module_level=True)
shortcut = pytest.importorskip("proxy._shortcut")

SEEDS = 120
NOON = 1_800_000_000_000_000_000
OURS = messages.notice_response("NOTICE", "00000", "soon")
NOTICE = message(b"N", b"SNOTICE\0\0")
PREPARE = say.parse("select $1", "s", (23,)) + say.SYNC
PREPARED = say.PARSED + say.READY
BOUND_ROW = say.BOUND + say.ROWS + say.ROW + say.complete("SELECT 1") + say.READY
SECRETS = [
    "select crypt('s', x)",
    "; SET a.TOKEN = 's'",
    "HMAC(x, 's')",
    "set_config('a.secret', 's', true)",
    "options (key 's')",
    'u&"a"',
    "secret token key opt se cr:",
]
WORDS = [*["ok"] * 8, "begin", "begin", "commit", "rollback", "bad", "copyout", "fetch p"]
TAILS = ["1", "2", 'a "name" \\ and\nmore', "\u00e9", "password 'secret'", "p:/", *SECRETS]


class Counted:
    """A shortcut that tells how often it was taken."""

    taken = 0

    def __init__(self, *parts: Any) -> None:  # noqa: ANN401 Shortcut's own
        made = shortcut.Shortcut(*parts)
        self.asks, self.answers, self.leave, self._end = made.asks, made.answers, made.leave, made.end

    def end(self, data: bytes) -> None:
        """Count it."""
        Counted.taken += 1
        self._end(data)


class Two:
    """The same session with a shortcut and without."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, **changed: Any) -> None:  # noqa: ANN401 Stand's own
        patch.setattr(proxy.relay, "make_shortcut", Counted)
        self.short = Stand(folder / "short", **changed)
        patch.setattr(proxy.relay, "make_shortcut", lambda *_: None)
        self.long = Stand(folder / "long", **changed)
        Counted.taken = 0

    def each(self, act: Callable[[Stand], object]) -> None:
        """Do it to both."""
        act(self.short)
        act(self.long)

    def client(self, *parts: bytes) -> None:
        """The client sends one chunk."""
        self.each(lambda stand: stand.client.data_received(b"".join(parts)))

    def server(self, *parts: bytes) -> None:
        """PostgreSQL sends one chunk."""
        self.each(lambda stand: stand.server.data_received(b"".join(parts)))

    def check(self) -> None:
        """They look the same, from every side."""
        assert lines(self.short) == lines(self.long)
        assert state(self.short) == state(self.long)
        assert lines(self.short) == lines(self.long)

    def close(self) -> None:
        """The session ends here."""
        self.each(lambda stand: stand.recorder.after(stand.relay.tracker.close(NOON, stand.relay.copied)))
        self.check()
        self.each(Stand.close)


def lines(stand: Stand) -> list[bytes]:
    """The journal."""
    stand.journal.flush()
    return stored(stand.folder)


def state(stand: Stand) -> dict[str, Any]:
    """What anybody can see of a relay."""
    relay = stand.relay
    tracker = relay.tracker
    return {
        **{name: getattr(tracker, name) for name in ("busy", "state", "statements", "transaction", "terminated")},
        **{name: getattr(tracker, name) for name in ("failed", "fatal", "lost")},
        "owed": [(one.kind, one.statement) for one in tracker.owed],
        "open": [(one.statement, one.sql, one.start, one.started, one.bytes_in) for one in tracker.open],
        "relay": (
            relay.bytes_in,
            relay.bytes_out,
            relay.copied,
            relay.settled,
            repr(stand.cause()).replace(str(stand.folder), ""),
        ),
        "sent": (stand.upstream, stand.told),
    }


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clock that a record's times come from; and that of turns, which none of the two is to wait for."""
    for where, name in ((chain, "_now"), (proxy.relay, "_now"), (shortcut, "time_ns"), (shortcut, "monotonic_ns")):
        monkeypatch.setattr(where, name, lambda: NOON)
    monkeypatch.setattr(proxy.leg, "monotonic", lambda: NOON)


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    """Two relays."""
    made = Two(tmp_path, monkeypatch)
    yield made
    made.close()


class PlainAuthor(Author):
    """Makes up conversations that are plain for the most part."""

    def round(self) -> list[bytes]:
        """A round, one that is not plain now and then."""
        pick = self.random.choice
        what = pick(["wild", *["simple"] * 3, *["prepared"] * 5])
        if what == "wild":
            return super().round()
        if what == "simple":
            return [say.query(self.sql())]
        name = pick(["s", "t", ""])
        first = pick([[], [], [], [say.parse(self.sql(), name)]])
        described = pick([[], [say.describe_portal()]])
        return [*first, say.bind(statement=name), *described, say.execute(rows=pick([0, 0, 0, 1])), say.SYNC]

    def sql(self) -> str:
        """A word of the model's, with a tail that is plain or not."""
        return f"{self.random.choice(WORDS)} -- {self.random.choice(TAILS)}"


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_conversations(two: Two, seed: int) -> None:
    """Plain statements among all others, in whole chunks and in pieces; now and then somebody looks, or interferes."""
    author, model, answers = PlainAuthor(seed, copies=seed % 3 == 0), Model(), b""
    for _ in range(author.random.randrange(1, 60)):
        said = author.round()
        for chunk in pieces(author.random, b"".join(said)):
            two.client(chunk)
            meddle(two, author.random)
        answers += b"".join(model.take(one[:1], one[5:]) for one in said)
        if author.random.randrange(6) == 0:
            continue  # The client goes on before it is answered.
        for chunk in pieces(author.random, answers):
            two.server(chunk)
            meddle(two, author.random)
        answers = b""


@pytest.mark.parametrize(
    "sql",
    [
        "set a.secret = 's'",
        "select set_config('a.x_token', 's', true)",
        "SELECT CRYPT('s', x)",
        "select pgp_sym_encrypt('x', 's')",
        "select hmac('x', 's', 'md5')",
        "alter server x options (set api_key 's')",
        "Alter Role x PassWord 's'",
        "alter role x set U&\"a.\\0073ecret\" = 's'",
        "copy t from program 'curl ftp://u:s@h'",
    ],
)
async def test_secrets(two: Two, sql: str) -> None:
    """What has one is left to who masks it."""
    two.client(say.query(sql))
    two.server(say.complete("SELECT 1") + say.READY)
    two.check()
    assert Counted.taken == 0


@pytest.mark.parametrize("sql", ["select key, token, secret from t", "update t set a = 'x' where b = 'o:p'"])
async def test_no_secrets(two: Two, sql: str) -> None:
    """Words alone are none."""
    two.client(say.query(sql))
    two.server(say.complete("SELECT 1") + say.READY)
    two.check()
    assert Counted.taken == 1


async def test_bound_secrets(two: Two) -> None:
    """A key among the values is masked, statement for statement."""
    two.client(say.parse("select crypt($1, $2)", "s", (25, 25)) + say.SYNC)
    two.server(say.PARSED + say.READY)
    two.client(say.bind("hunter2", "salt", statement="s"), say.execute(), say.SYNC)
    two.server(BOUND_ROW)
    two.check()
    assert Counted.taken == 0


def pieces(random: Random, data: bytes) -> list[bytes]:
    """Whole, for the most part."""
    if not data:
        return []
    cut = random.choice([*[len(data)] * 6, random.randrange(len(data) + 1)])
    return [one for one in (data[:cut], data[cut:]) if one]


def meddle(two: Two, random: Random) -> None:
    """Now and then: what else happens to a session."""
    often = random.randrange(10)
    if often == 0:
        two.check()
    if often != 1:
        return
    act: Callable[[Stand], object] = random.choice(
        [
            lambda stand: stand.relay.tell(OURS),
            lambda stand: stand.relay.record(Notice(severity="NOTICE", sqlstate="00000", message="soon")),
            lambda stand: stand.server.data_received(NOTICE),
            lambda stand: stand.server.data_received(say.STATUS),
            lambda stand: stand.client.eof_received(),
        ]
        + [lambda stand: stand.relay.close_in()] * (random.randrange(8) == 0)
    )
    two.each(act)


async def test_that_it_is_taken(two: Two) -> None:
    """By what pgbench, asyncpg, pgjdbc and psql send all the time."""
    two.client(PREPARE)
    two.server(PREPARED)
    for asked in (
        say.query("select 1"),
        say.query("insert into \"t\" values (E'a\\\\b')\n"),
        say.bind("7", statement="s") + say.describe_portal() + say.execute() + say.SYNC,
        say.bind("7", statement="s") + say.execute() + say.SYNC,
        say.bind(None, statement="s") + say.execute() + say.SYNC,
    ):
        before = Counted.taken
        two.client(asked)
        two.server(BOUND_ROW)
        assert Counted.taken == before + 1, asked


@pytest.mark.parametrize(
    "asked",
    [
        say.query("select 1") + say.query("select 2"),
        say.query("alter user a password 'b'"),
        say.query("select dblink('postgres://a:b@c')"),
        say.query("select 'é'"),
        say.query("tab\there"),
        say.query("x" * 9_000),
        say.bind("é", statement="s") + say.execute() + say.SYNC,
        say.bind("7", statement="s") + say.execute(),
        say.bind("7", statement="s") + say.execute() + say.SYNC + say.SYNC,
        say.bind("7", statement="unknown") + say.execute() + say.SYNC,
        say.bind("7", portal="p", statement="s") + say.execute("p") + say.SYNC,
        say.bind("7", statement="s") + say.describe_statement("s") + say.execute() + say.SYNC,
        say.bind("7", statement="s") + say.execute("p") + say.SYNC,
        say.parse("select 1") + say.bind() + say.execute() + say.SYNC,
    ],
)
async def test_what_it_declines(two: Two, asked: bytes) -> None:
    """Whatever is not plain goes the long way."""
    two.client(PREPARE)
    two.server(PREPARED)
    two.client(asked)
    two.server(BOUND_ROW)
    assert Counted.taken == 0


TAGS = [
    "SELECT 1",
    "INSERT 0 12",
    "BEGIN",
    "",
    "7",
    "SELECT 01",
    "SELECT 1234567890123456789",
    "SELECT -1",
    "X 1 ",
    "p:",
]


@pytest.mark.parametrize("tag", [*TAGS, "é", 'a"b', "tab\t", "x" * 200])
async def test_tags(two: Two, tag: str) -> None:
    """Their rows are counted alike, whatever PostgreSQL says."""
    two.client(say.query("a"))
    two.server(say.complete(tag) + say.READY)
    two.client(say.query("b"))


@pytest.mark.parametrize(
    "answer",
    [
        say.READY,
        say.complete("A") + say.complete("B") + say.READY,
        say.complete("A") + say.ROW + say.READY,
        say.complete("A") + say.READY + say.READY,
        say.complete("A") + say.READY + say.STATUS,
        say.complete("A") + message(b"Z", b"X"),
        say.complete("A") + message(b"Z", b""),
        say.complete("A") + message(b"Z", b"II"),
        message(b"C") + say.READY,
        say.EMPTY + say.READY,
        say.error() + say.READY,
        say.ROWS + say.ROW + say.error(),
        say.NO_DATA + say.COPY_OUT + say.copy_data(b"1") + say.complete("COPY 1") + say.READY,
        say.SUSPENDED + say.READY,
        b"Z",
        b"C\0\0\0\3",
        b"D\xff\xff\xff\xff",
    ],
)
async def test_odd_answers(two: Two, answer: bytes) -> None:
    """Hostile ones included."""
    two.client(PREPARE)
    two.server(PREPARED)
    for asked in (say.query("a"), say.bind("7", statement="s") + say.execute() + say.SYNC) * 2:
        two.client(asked)
        two.server(answer)


async def test_the_portal_stays_open_in_a_transaction(two: Two) -> None:
    """The next Execute without a Bind runs it again, and the record says so."""
    two.client(PREPARE)
    two.server(PREPARED)
    two.client(say.query("begin"))
    two.server(say.complete("BEGIN") + say.READY_IN)
    two.client(say.bind("7", statement="s") + say.execute() + say.SYNC)
    two.server(say.BOUND + say.complete("SELECT 1") + say.READY_IN)
    two.client(say.query("ok"))
    two.server(say.complete("OK") + say.READY_IN)
    assert Counted.taken == 3
    two.client(say.execute() + say.SYNC)
    assert b'"parameters":[{"type":23,"value":"7"}]' in lines(two.short)[-1]


@pytest.mark.parametrize("portal", ["", "p"])
async def test_a_portal_is_gone_behind_its_transaction(two: Two, portal: str) -> None:
    """An Execute of it fails then, and its record does not say what it would have run."""
    two.client(PREPARE)
    two.server(PREPARED)
    bound = say.bind("7", portal=portal, statement="s") + say.execute(portal) + say.SYNC
    for asked, answer in ((say.query("begin"), say.READY_IN), (bound, say.READY_IN), (say.query("commit"), say.READY)):
        two.client(asked)
        two.server(say.complete("X") + answer)
    assert Counted.taken == (2 if portal else 3)
    two.client(say.execute(portal) + say.SYNC)
    assert b"select $1" not in lines(two.short)[-1]


@pytest.mark.parametrize(
    "unasked", [say.READY, say.READY_IN, say.BOUND, say.complete("A"), say.error(), say.COPY_IN, say.SUSPENDED]
)
async def test_a_server_that_answers_what_nobody_asked(two: Two, unasked: bytes) -> None:
    """In the middle of a round, and between two."""
    two.client(PREPARE)
    two.server(PREPARED)
    two.client(say.bind("7", statement="s") + say.execute() + say.FLUSH)
    two.server(say.BOUND + say.complete("A") + unasked)
    for _ in range(3):
        two.client(say.query("a"))
        two.server(say.complete("A") + say.READY)
        two.client(say.bind("7", portal="p", statement="s") + say.execute("p") + say.SYNC)
        two.server(say.error() + say.READY)
        two.client(say.execute("p") + say.SYNC)
        two.server(unasked + say.READY + unasked)


async def test_a_name_that_postgresql_cuts(two: Two) -> None:
    """It finds the statement by the 63 bytes that it keeps, which may be fewer than Parse had."""
    two.client(say.parse("select $1", "n" * 70, (23,)) + say.SYNC)
    two.server(PREPARED)
    two.client(say.bind("7", statement="n" * 63) + say.execute() + say.SYNC)
    two.server(BOUND_ROW)
    assert Counted.taken == 1


async def test_behind_a_copy_that_failed(two: Two) -> None:
    """There may be one more ReadyForQuery then, until the next answer has come: a plain one, here."""
    two.client(say.parse("copyin") + say.bind() + say.execute() + say.SYNC + say.COPY_DONE + say.SYNC)
    two.server(say.PARSED + say.BOUND + say.COPY_IN + say.error() + say.READY)
    two.client(say.query("a"))
    two.server(say.complete("A") + say.READY)
    two.client(say.bind() + say.SYNC)
    two.server(say.BOUND + say.READY)
    assert not two.short.relay.tracker.lost


@pytest.mark.parametrize("policy", [Parameters.TYPES, Parameters.NONE])
async def test_values_that_are_not_to_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Parameters
) -> None:
    """It shows none."""
    two = Two(tmp_path, monkeypatch, policy=policy)
    two.client(PREPARE)
    two.server(PREPARED)
    for _ in range(2):
        two.client(say.bind("7", statement="s") + say.execute() + say.SYNC)
        two.server(BOUND_ROW)
    assert b'"7"' not in b"".join(lines(two.short))
    two.close()


async def test_a_journal_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement does not go on, in the middle of plain ones."""
    two = Two(tmp_path, monkeypatch, limit_bytes=8_000)
    while two.short.cause() is None:
        two.client(say.query("select 1"))
        two.server(say.complete("SELECT 1") + say.READY)
    assert Counted.taken > 3
    assert isinstance(two.short.cause(), JournalFailed)
    assert state(two.short) == state(two.long)
    two.each(Stand.close)


TYPES = st.sampled_from([0, 16, 20, 21, 23, 25, 700, 1042, 1043, 1700, 2950, 4_000_000_000])
VALUES = st.none() | st.binary(max_size=9) | st.text('pP:/ab\\"\n7', max_size=9).map(str.encode)


FORMATS = st.lists(st.sampled_from([0, 1, 2]), max_size=3)
TWISTS = st.none() | st.tuples(st.integers(0, 80), st.integers(0, 255))
"""One byte of a Bind, and what it is instead."""
TEXTS = st.binary(max_size=12) | st.text('pP:/ab"\\\n', max_size=12).map(str.encode)


def bind_of(values: list[bytes | None], formats: list[int], twist: tuple[int, int] | None) -> bytes:
    """A Bind of the statement `v`, perhaps a broken one."""
    encoded = b"".join(struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one for one in values)
    counts = b"".join(struct.pack("!H", one) for one in (len(formats), *formats, len(values)))
    body = bytearray(b"\0v\0" + counts + encoded + b"\0\0")
    if twist is not None:
        body[twist[0] % len(body)] = twist[1]
    return message(b"B", bytes(body))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    types=st.lists(TYPES, max_size=3),
    bind=st.builds(bind_of, st.lists(VALUES, max_size=3), FORMATS, TWISTS),
    sql=TEXTS,
)
async def test_values(two: Two, types: list[int], bind: bytes, sql: bytes) -> None:
    """Of any type, form and length, well-formed or not; and any text."""
    two.client(say.parse("select 1", "v", tuple(types)) + say.SYNC)
    two.server(PREPARED)
    two.client(bind + say.execute() + say.SYNC)
    two.server(BOUND_ROW)
    two.client(message(b"Q", sql + b"\0"))
    two.server(say.complete("SELECT 1") + say.READY)
    two.client(say.close_statement("v") + say.SYNC)
    two.server(say.CLOSED + say.READY)
    two.check()


@pytest.mark.parametrize("size", range(0, 9_000, 500))
async def test_long_texts(two: Two, size: int) -> None:
    """However long the line would be."""
    two.client(say.parse("x" * 2 * size, "long") + say.SYNC)
    two.server(PREPARED)
    two.client(say.bind('"' * size, statement="long") + say.execute() + say.SYNC)
    two.server(BOUND_ROW)
    two.client(say.query('"' * size))
    two.server(BOUND_ROW)
