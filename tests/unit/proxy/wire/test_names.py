"""Recorder evasion by names (PROTOCOL.md T8): prepared statements and portals, and the record of the text that runs.

Each case was played to PostgreSQL 15 first, which ran `evil` in it.
"""

import pytest

from proxy.contract.record import StatementStart
from tests.unit.proxy.wire.playbook import (
    BOUND,
    CLOSED,
    PARSED,
    READY,
    READY_FAILED,
    READY_IN,
    SUSPENDED,
    SYNC,
    Playbook,
    bind,
    client,
    close_portal,
    close_statement,
    complete,
    describe_statement,
    error,
    execute,
    parse,
    play,
    query,
    server,
    types,
)

EXISTS = error("42P05", "already exists")
SYNTAX = error("42601", "syntax error")


def known_as(name: str, text: str) -> Playbook:
    """A session in which `name` is prepared."""
    book = Playbook()
    book.take(client(parse(text, name), SYNC), server(PARSED, READY))
    return book


def runs(book: Playbook, statement: str | bytes = "") -> str:
    """The text that a Bind and Execute of this statement are recorded with."""
    book.take(client(bind(statement=statement), execute(), SYNC))
    return last_text(book)


def last_text(book: Playbook) -> str:
    """The text of the last statement that started."""
    return [one.sql for one in book.records if isinstance(one, StatementStart)][-1]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_name_that_is_taken_keeps_its_text(attempts: int) -> None:
    """A Parse of a taken name fails; those behind it are skipped; the old text is what runs."""
    book = known_as("s", "evil")
    book.take(client(*[parse(f"harmless {number}", "s") for number in range(attempts)], SYNC), server(EXISTS, READY))
    assert runs(book, "s") == "evil"


def test_a_refused_parse_leaves_the_next_round_alone() -> None:
    """The one that was sent behind the Sync counts, though the one before it was refused later."""
    book = Playbook()
    book.take(client(parse("nonsense"), SYNC, parse("evil"), SYNC), server(SYNTAX, READY))
    assert runs(book) == "evil"
    book.take(server(PARSED, READY))
    assert runs(book) == "evil"


def test_two_refused_rounds() -> None:
    """Refused one after the other, neither counts."""
    book = known_as("s", "evil")
    book.take(client(parse("one", "s"), SYNC, parse("two", "s"), SYNC))
    book.take(server(EXISTS, READY), server(EXISTS, READY))
    assert runs(book, "s") == "evil"


def test_a_skipped_close_closes_nothing() -> None:
    """PostgreSQL still knows the statement, and so does the record."""
    book = known_as("s", "evil")
    book.take(client(parse("nonsense"), close_statement("s"), parse("harmless", "s"), SYNC), server(SYNTAX, READY))
    assert runs(book, "s") == "evil"


def test_a_close_that_was_answered_counts() -> None:
    """The error behind it does not bring the name back to what it meant before."""
    book = known_as("s", "old")
    book.take(client(close_statement("s"), parse("evil", "s"), parse("nonsense"), SYNC))
    book.take(server(CLOSED, PARSED, SYNTAX, READY))
    assert runs(book, "s") == "evil"
    book.take(server(BOUND, complete("A"), READY))
    book.take(client(close_statement("s"), parse("nonsense"), SYNC), server(CLOSED, SYNTAX, READY))
    assert runs(book, "s") == ""


def test_a_refused_bind_leaves_the_portal() -> None:
    """A savepoint lets a portal outlive the error of the Bind that wanted its name."""
    book = Playbook()
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(parse("evil"), bind(portal="p"), SYNC), server(PARSED, BOUND, READY_IN))
    book.take(client(query("SAVEPOINT a")), server(complete("SAVEPOINT"), READY_IN))
    book.take(client(parse("harmless"), bind(portal="p"), SYNC), server(PARSED, error("42P03", "exists"), READY_FAILED))
    book.take(client(query("ROLLBACK TO a")), server(complete("ROLLBACK"), READY_IN))
    book.take(client(execute("p"), SYNC))
    assert last_text(book) == "evil"


def test_a_skipped_close_leaves_the_portal() -> None:
    """As a skipped Close of a statement does."""
    book = Playbook()
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(parse("evil"), bind(portal="p"), SYNC), server(PARSED, BOUND, READY_IN))
    book.take(client(parse("nonsense"), close_portal("p"), SYNC), server(SYNTAX, READY_FAILED))
    book.take(client(execute("p"), SYNC))
    assert last_text(book) == "evil"


def test_a_bind_that_was_answered_counts() -> None:
    """An error behind it is not its own, so the portal is the new one."""
    book = Playbook()
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(parse("old", "o"), parse("evil", "e"), bind(portal="p", statement="o"), close_portal("p")))
    book.take(client(bind(portal="p", statement="e"), parse("nonsense"), SYNC))
    book.take(server(PARSED, PARSED, BOUND, CLOSED, BOUND, SYNTAX, READY_FAILED))
    book.take(client(execute("p"), SYNC))
    assert last_text(book) == "evil"


@pytest.mark.parametrize("other", [b"a" * 63, b"a" * 63 + b"2", b"a" * 100])
def test_names_count_63_bytes(other: bytes) -> None:
    """PostgreSQL looks no further (NAMEDATALEN), for statements and for portals."""
    book = known_as("a" * 63 + "1", "evil")
    assert runs(book, other) == "evil"
    book.take(client(bind(portal=b"p" * 63 + b"1", statement=other), execute(b"p" * 64)))
    assert last_text(book) == "evil"


def test_what_sql_can_execute_is_recorded() -> None:
    """EXECUTE finds what Parse has defined: the text is in the journal before it is PostgreSQL's."""
    assert play(client(parse("evil", "s"), SYNC), server(PARSED, READY), client(query("EXECUTE s"))) == [
        "prepare: (s) evil",
        "1> EXECUTE s",
    ]


def test_what_sql_can_fetch_is_recorded() -> None:
    """FETCH finds what Bind has bound, and planning runs functions: so does a Bind that no Execute follows at once."""
    assert play(
        client(parse("evil $1"), bind("x", portal="p"), SYNC),
        client(bind("y"), parse("DO", "d"), bind(portal="q", statement="d"), execute("q")),
        client(query("FETCH ALL FROM p")),
    ) == [
        "bind 'p': evil $1 ['x']",
        "prepare: (d) DO",
        "bind '': evil $1 ['y']",
        "1> (d) DO",
        "2> FETCH ALL FROM p",
    ]


def test_a_bind_is_recorded_once() -> None:
    """With its Execute at once there is no other record of it; where that comes later, there are both."""
    assert play(client(parse("a"), bind(), execute(), bind(), execute())) == ["1> a", "2> a"]
    assert play(client(parse("a"), bind()), client(execute())) == ["bind '': a", "1> a"]


def test_names_in_another_encoding() -> None:
    """`é` in LATIN1 and in UTF-8 is one name to PostgreSQL; the text was recorded when it got the name."""
    book = Playbook()
    assert book.take(client(parse("evil", b"\xe9"), SYNC), server(PARSED, READY)) == ["prepare: (\\xe9) evil"]
    assert book.take(client(bind(statement=b"\xc3\xa9"), execute(), SYNC)) == ["1> (é) "]


# --- all sent before the first answer: the start says what is thought, and the end what was so


def test_ahead_of_a_refused_parse() -> None:
    """The Execute was recorded with the text that its name was to get; the name was taken."""
    book = known_as("s", "evil")
    assert book.take(
        client(parse("harmless", "s"), SYNC, bind("x", statement="s"), execute(), SYNC),
        server(EXISTS, READY, BOUND, complete("DELETE 9"), READY),
    ) == ["prepare: (s) harmless", "1> (s) harmless ['x']", "1< DELETE 9, ran (s) evil ['x'] [I]"]


def test_ahead_of_a_refused_parse_that_fails_itself() -> None:
    """An error of its own says the text, too."""
    book = known_as("s", "evil")
    book.take(client(parse("harmless", "s"), SYNC, bind(statement="s"), execute(), SYNC))
    assert book.take(server(EXISTS, READY, BOUND, error(), READY)) == ["1< ran (s) evil, 22012 division by zero [I]"]


def test_ahead_of_a_skipped_close() -> None:
    """The name had its old text all the time."""
    book = known_as("s", "evil")
    heard = book.take(
        client(parse("nonsense"), close_statement("s"), parse("harmless", "s"), SYNC),
        client(bind(statement="s"), execute(), SYNC),
        server(SYNTAX, READY, BOUND, complete("DELETE 9"), READY),
    )
    assert heard[-1] == "1< DELETE 9, ran (s) evil [I]"


def test_ahead_of_a_refused_bind() -> None:
    """The portal was an older one, with its own values."""
    book = Playbook()
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(parse("evil"), bind("old", portal="p"), SYNC), server(PARSED, BOUND, READY_IN))
    book.take(client(query("SAVEPOINT a"), parse("harmless"), bind("new", portal="p"), SYNC))
    book.take(client(query("ROLLBACK TO a"), execute("p"), SYNC))
    book.take(server(complete("SAVEPOINT"), READY_IN, PARSED, error("42P03", "exists"), READY_FAILED))
    heard = book.take(server(complete("ROLLBACK"), READY_IN, complete("DELETE 9"), READY_IN))
    assert heard[-1] == "4< DELETE 9, ran evil ['old'] [T]"


def test_ahead_of_a_refused_bind_for_a_cursor_of_sql() -> None:
    """The portal was none of ours: its text is in the DECLARE."""
    book = Playbook()
    book.take(client(query("BEGIN; DECLARE p CURSOR FOR evil")), server(complete("BEGIN"), READY_IN))
    book.take(client(query("SAVEPOINT a"), parse("harmless"), bind(portal="p"), SYNC))
    book.take(client(query("ROLLBACK TO a"), execute("p"), SYNC))
    book.take(server(complete("SAVEPOINT"), READY_IN, PARSED, error("42P03", "exists"), READY_FAILED))
    heard = book.take(server(complete("ROLLBACK"), READY_IN, complete("FETCH 1"), READY_IN))
    assert heard[-1] == "4< FETCH 1, ran (portal p)  [T]"


def test_what_never_ran_ran_nothing() -> None:
    """Blamed for a Bind before it, skipped, or of a portal that does not exist: the end says no text."""
    book = known_as("s", "evil")
    ends = book.take(
        client(parse("harmless", "s"), bind(statement="s"), execute(), execute(), SYNC),
        client(bind(statement="s", portal="p"), SYNC, execute("p"), SYNC),
        server(EXISTS, READY, BOUND, READY, error("34000", "no portal"), READY),
    )[-3:]
    assert ends == ["1< 42P05 already exists [I]", "2< skipped [I]", "3< 34000 no portal [I]"]


def test_what_was_thought_rightly_is_not_said_again() -> None:
    """Pipelined rounds that PostgreSQL takes as they were sent."""
    rounds = [parse("a", "s"), SYNC, bind(statement="s"), execute(rows=1), SYNC, close_statement("s"), SYNC]
    ends = play(
        client(*rounds, parse("b", "s"), bind(statement="s"), execute(), SYNC),
        server(PARSED, READY, BOUND, SUSPENDED, READY, CLOSED, READY, PARSED, BOUND, complete("B"), READY),
    )[-2:]
    assert ends == ["1< suspended after 1 [I]", "2< B [I]"]


def test_types_that_are_told_late() -> None:
    """What Describe tells belongs to the statement that was described, not to the one that has its name by now."""
    book = Playbook()
    book.take(
        client(parse("old $1", "s"), SYNC, describe_statement("s"), close_statement("s"), parse("new $1", "s"), SYNC)
    )
    book.take(server(PARSED, READY, types(23), CLOSED, PARSED, READY))
    book.take(client(bind("1", statement="s"), execute(), SYNC))
    start = book.records[-1]
    assert isinstance(start, StatementStart)
    assert start.sql == "new $1"
    assert [one.type for one in start.parameters or []] == [0]


def test_many_binds_before_the_first_answer() -> None:
    """As many as a client can send while PostgreSQL is busy: none is lost, and the end of them breaks nothing."""
    book = Playbook()
    count = 100_000
    book.take(client(parse("a")), client(*[bind() + execute()] * count, SYNC))
    assert book.tracker.statements == count
    book.take(server(PARSED, error(), READY))
    assert not book.tracker.busy
    assert runs(book) == "a"
    book.take(client(*[bind() + execute()] * count))
    assert len(book.tracker.running) == count + 1


@pytest.mark.parametrize("over", [parse("shown"), close_statement("")], ids=["Parse", "Close"])
def test_an_unnamed_statement_that_may_stay(over: bytes) -> None:
    """What replaces it may be skipped, and it runs after all: it is on record before that."""
    asked = client(parse("evil"), bind(statement="missing"), over, SYNC, bind(), execute(), SYNC)
    assert play(asked)[0] == "prepare: evil"


def test_an_unnamed_statement_that_was_shown() -> None:
    """By its Execute, or by a Bind: nobody needs it twice."""
    shown = [parse("a"), bind(), execute(), parse("b"), bind(), SYNC]
    assert play(client(*shown), client(parse("c"), close_statement(""), parse("d"), SYNC)) == [
        "1> a",
        "bind '': b",
        "prepare: c",
    ]


def test_an_unnamed_statement_whose_types_were_told() -> None:
    """It is the same text."""
    asked = client(parse("a"), describe_statement(), SYNC), server(PARSED, types(23), READY)
    again = client(bind("1"), execute(), SYNC), server(BOUND, complete("A"), READY), client(parse("b"), SYNC)
    assert play(*asked, *again) == ["1> a ['1']", "1< A [I]"]
