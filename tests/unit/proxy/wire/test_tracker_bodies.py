"""The tracker at bodies that nobody sane sends, and at what it may say of bound values: recorded, never raised."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.record import Parameter, Record, StatementEnd, StatementPrepare, StatementStart
from proxy.contract.settings import Parameters
from proxy.wire.tracker import Tracker
from tests.unit.proxy.wire import playbook
from tests.unit.proxy.wire.playbook import (
    BOUND,
    NO_DATA,
    PARSED,
    READY,
    SYNC,
    Playbook,
    bind,
    client,
    complete,
    describe_statement,
    error,
    execute,
    function,
    parse,
    query,
    server,
    types,
)
from tests.unit.proxy.wire.reference import message

INT4, TEXT = 23, 25


def started(book: Playbook) -> StatementStart:
    """The last start."""
    return [one for one in book.records if isinstance(one, StatementStart)][-1]


# --- texts


@pytest.mark.parametrize(
    ("raw", "sql"),
    [
        (b"SELECT '\xe4'", "SELECT '\\xe4'"),
        (b"SELECT \xf0\x9f", "SELECT \\xf0\\x9f"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_a_text_that_is_not_utf8(raw: bytes, sql: str) -> None:
    """It is recorded exactly, and readably, whichever protocol it came in."""
    book = Playbook()
    book.take(client(query(raw), parse(raw), bind(), execute()))
    simple, extended = book.records
    for record in (simple, extended):
        assert isinstance(record, StatementStart)
        assert (record.sql, base64.b64decode(record.sql_base64 or "")) == (sql, raw)


def test_a_text_with_a_secret() -> None:
    """Masked in every record, and said to be; a text that is not UTF-8 is then not kept exactly either."""
    raw = b"ALTER ROLE a PASSWORD 'hunter2'"
    book = Playbook()
    book.take(
        client(
            query(raw), parse(raw, "s"), bind(statement="s"), execute(), query(raw + b" -- \xe4"), bind(statement="s")
        )
    )
    texts = [one for one in book.records if isinstance(one, StatementStart | StatementPrepare)]
    assert [(one.masked, "hunter2" in one.sql) for one in texts] == [(True, False)] * 5
    assert [one.sql_base64 for one in texts] == [None] * 5


def test_a_huge_text() -> None:
    """Nothing is cut."""
    text = "SELECT " + "x" * 1_000_000
    book = Playbook()
    book.take(client(query(text)))
    assert started(book).sql == text


# --- bodies that are none

BODIES = [b"", b"\0", b"x", b"\0\0", b"\0\0\0", b"\xff\xff", b"s\0", b"s\0\xff\xff", b"\0\0\0\0\0\1", b"\0\0\0\2\0\0"]


@pytest.mark.parametrize("body", [*BODIES, b"SELECT 1", b"SELECT 1\0\0", b"a\0b\0"])
def test_query_bodies(body: bytes) -> None:
    """A Query without its terminator, with two, with a NUL inside: PostgreSQL refuses it, the record has all of it."""
    book = Playbook()
    book.take(client(message(b"Q", body)))
    exact = base64.b64decode(started(book).sql_base64 or "") or started(book).sql.encode()
    assert exact in (body, body[:-1])


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", [b"P", b"B", b"E", b"D", b"C", b"F", b"f", b"c", b"H", b"S", b"X"])
def test_short_bodies(kind: bytes, body: bytes) -> None:
    """Each is taken, and PostgreSQL's refusal of it leaves everything as it was."""
    book = Playbook()
    book.take(client(parse("a", "s"), SYNC), server(PARSED, READY))
    book.take(client(message(kind, body), SYNC), server(error("08P01", "invalid message format"), READY))
    if not book.tracker.terminated:
        book.take(client(bind(statement="s"), execute(), SYNC), server(BOUND, complete("A"), READY))
        assert started(book).sql == "a"


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\1",
        b"\0\0\0\1",
        b"\0\0\0\1\0\0",
        b"\0\0\0\1\0\0\0\5abc",
        b"\0\0\0\1\xff\xff\xff\xfe",
        b"\0\0\0\1\x7f\xff\xff\xffabc",
        b"\0\2\0\0\0\0\0\1\0\0\0\0",
        b"\0\2\0\1\0\1\0\1\0\0\0\0\0\0",
        b"\xff\xff",
        b"\0\0\xff\xff\0\0\0\0",
    ],
)
def test_a_bind_that_cannot_be_read(rest: bytes) -> None:
    """All of it is recorded as one value, exactly."""
    book = Playbook()
    body = b"p\0\0" + rest
    book.take(client(parse("a"), message(b"B", body), execute("p")))
    assert started(book).parameters == [Parameter(type=0, base64=base64.b64encode(body).decode())]


def test_an_execute_without_a_row_count() -> None:
    """The portal is known all the same."""
    book = Playbook()
    assert book.take(client(parse("a"), bind(), message(b"E", b"\0"))) == ["1> a"]


@given(
    asked=st.lists(st.tuples(st.sampled_from(b"QPBEDCSFcfXH"), st.binary(max_size=20)), max_size=20),
    heard=st.lists(st.tuples(st.sampled_from(b"CZEIs1GHWStKVv2"), st.binary(max_size=20)), max_size=20),
    policy=st.sampled_from(Parameters),
)
def test_no_bytes_make_it_raise(
    asked: list[tuple[int, bytes]], heard: list[tuple[int, bytes]], policy: Parameters
) -> None:
    """Whatever both sides say: each statement has one start and one end, in order."""
    tracker = Tracker(policy)
    records: list[Record] = []
    for step in range(max(len(asked), len(heard))):
        records += playbook.started(tracker.requests(asked[step : step + 1], step))
        answers = [(kind, body, step) for kind, body in heard[step : step + 1]]
        records += playbook.ended(tracker.responses(answers, step))
    records += playbook.ended(tracker.close(99, (0, 0)))
    numbers = list(range(1, tracker.statements + 1))
    assert [one.statement for one in records if isinstance(one, StatementStart)] == numbers
    assert [one.statement for one in records if isinstance(one, StatementEnd)] == numbers


# --- parameters


def with_values(policy: Parameters) -> Playbook:
    """A session in which two values were bound to a statement that declares one type."""
    book = Playbook(policy)
    book.take(client(parse("SELECT $1, $2", types=(INT4,)), bind("7", None), execute()))
    return book


def test_full_values() -> None:
    """With their declared types; NULL is no empty text."""
    assert started(with_values(Parameters.FULL)).parameters == [
        Parameter(type=INT4, value="7"),
        Parameter(type=0, value=None),
    ]


def test_types_only() -> None:
    """Every value is withheld, NULLs too: even that tells something."""
    assert started(with_values(Parameters.TYPES)).parameters == [
        Parameter(type=INT4, withheld=True),
        Parameter(type=0, withheld=True),
    ]


def test_no_values() -> None:
    """Not even how many there were; nor does a Bind that cannot be read tell."""
    assert started(with_values(Parameters.NONE)).parameters is None
    book = Playbook(Parameters.NONE)
    book.take(client(parse("a"), message(b"B", b"\0\0secret"), execute()))
    assert started(book).parameters is None


LO_OPEN, LOWRITE, SET_CONFIG, UNKNOWN = 952, 955, 2078, 400_000


@pytest.mark.parametrize(
    ("call", "policy", "arguments"),
    [
        (function(LO_OPEN, b"\0\0\1\0", None), Parameters.FULL, [Parameter(type=26, value=256), Parameter(type=23)]),
        (
            function(LOWRITE, b"\0\0\0\1", b"a\xff"),
            Parameters.FULL,
            [Parameter(type=23, value=1), Parameter(type=17, base64="Yf8=", binary=True)],
        ),
        (function(UNKNOWN, b"\1"), Parameters.FULL, [Parameter(type=0, base64="AQ==", binary=True)]),
        (function(UNKNOWN, b"1", form=0), Parameters.FULL, [Parameter(type=0, value="1")]),
        (
            function(LO_OPEN, b"\1", b"\2", b"\3"),
            Parameters.TYPES,
            [Parameter(one, withheld=True) for one in (26, 23, 0)],
        ),
        (function(LO_OPEN, b"\1"), Parameters.NONE, None),
        (function(UNKNOWN), Parameters.FULL, None),
        (
            function(SET_CONFIG, b"a.secret", b"hunter2", b"\1"),
            Parameters.FULL,
            [Parameter(25, "a.secret"), Parameter(25, "***", masked=True), Parameter(16, True)],  # noqa: FBT003 a value
        ),
        (message(b"F", b"\0\0\0\1\0\5"), Parameters.FULL, [Parameter(0, base64="AAAAAQAF")]),
    ],
)
def test_a_function_calls_arguments(call: bytes, policy: Parameters, arguments: list[Parameter] | None) -> None:
    """As bound values: by the types of PostgreSQL's own functions, exactly where none are known; whole if broken."""
    book = Playbook(policy)
    book.take(client(call))
    assert started(book).parameters == arguments


@pytest.mark.parametrize(
    ("body", "size"), [(b"\0\0\0\5hello", 5), (b"\xff\xff\xff\xff", None), (b"\0" * 4, 0), (b"", None)]
)
def test_a_function_calls_result(body: bytes, size: int | None) -> None:
    """Its length is on record; NULL has none, other than what is empty."""
    book = Playbook()
    book.take(client(function(UNKNOWN)), server(message(b"V", body), READY))
    assert [one.result_bytes for one in book.records if isinstance(one, StatementEnd)] == [size]


def test_types_that_the_server_tells() -> None:
    """Describe's answer names the types that Parse left open; binary values are read by them."""
    book = Playbook()
    book.take(
        client(parse("SELECT $1", "s"), describe_statement("s"), SYNC), server(PARSED, types(INT4), NO_DATA, READY)
    )
    body = b"\0s\0" + b"\0\1\0\1" + b"\0\1" + struct.pack("!ii", 4, 7) + b"\0\0"
    book.take(client(message(b"B", body), execute()))
    assert started(book).parameters == [Parameter(type=INT4, value=7)]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\2\0\0\0\x17", b"\xff\xff"])
def test_a_parameter_description_that_is_none(body: bytes) -> None:
    """No types come of it."""
    book = Playbook()
    book.take(client(parse("SELECT $1", "s"), describe_statement("s"), SYNC))
    book.take(server(PARSED, message(b"t", body), NO_DATA, READY), client(bind("7", statement="s"), execute()))
    assert started(book).parameters == [Parameter(type=0, value="7")]


def test_formats_are_one_or_as_many_as_values() -> None:
    """One format counts for all values; without any they are text."""
    book = Playbook()
    values = struct.pack("!Hi4si4s", 2, 4, b"\0\0\0\7", 4, b"\0\0\0\x08") + b"\0\0"
    book.take(client(parse("a", types=(INT4, INT4)), message(b"B", b"\0\0" + b"\0\1\0\1" + values), execute()))
    assert started(book).parameters == [Parameter(type=INT4, value=7), Parameter(type=INT4, value=8)]
    book.take(client(message(b"B", b"\0\0" + b"\0\2\0\1\0\0" + values), execute()))
    assert started(book).parameters == [Parameter(type=INT4, value=7), Parameter(type=INT4, value="\0\0\0\x08")]


def test_one_statement_one_text_each() -> None:
    """What an unnamed Parse declared is forgotten with it."""
    book = Playbook()
    book.take(client(parse("a", types=(INT4,)), parse("b", types=(TEXT,)), bind("7"), execute()))
    assert started(book).parameters == [Parameter(type=TEXT, value="7")]


def test_the_types_of_as_many_parameters_as_there_can_be() -> None:
    """PostgreSQL tells all of them in one message, which is longer than any other that is read."""
    book, count = Playbook(), 65_535
    book.take(
        client(parse("a", "s"), describe_statement("s"), SYNC), server(PARSED, types(*[INT4] * count), NO_DATA, READY)
    )
    body = b"\0s\0" + struct.pack("!HHH", 1, 1, count) + struct.pack("!ii", 4, 7) * count + b"\0\0"
    book.take(client(message(b"B", body), execute()))
    parameters = started(book).parameters or []
    assert (len(parameters), set(parameters)) == (count, {Parameter(type=INT4, value=7)})
