"""The tracker: whole conversations of both protocols, and the records that an auditor will read them in."""

from collections.abc import Callable

import pytest

from proxy.contract.record import Copy, StatementEnd, StatementStart
from proxy.wire.tracker import Tracker
from tests.unit.proxy.wire.playbook import (
    BOUND,
    CLOSED,
    EMPTY,
    FLUSH,
    FUNCTION_RESULT,
    NO_DATA,
    PARSED,
    READY,
    READY_FAILED,
    READY_IN,
    ROW,
    ROWS,
    STATUS,
    SUSPENDED,
    SYNC,
    TERMINATE,
    Playbook,
    bind,
    client,
    close_portal,
    close_statement,
    complete,
    describe_portal,
    describe_statement,
    error,
    execute,
    function,
    parse,
    play,
    query,
    server,
    types,
)
from tests.unit.proxy.wire.reference import message

# --- simple queries


def test_a_simple_query() -> None:
    """One start before it goes on, one end at ReadyForQuery."""
    assert play(client(query("SELECT 1")), server(ROWS, ROW, complete("SELECT 1"), READY)) == [
        "1> SELECT 1",
        "1< SELECT 1 [I]",
    ]


@pytest.mark.parametrize("asked", [query, lambda sql: parse(sql) + bind() + execute() + SYNC])
def test_an_error_that_quotes_a_secret(asked: Callable[[str], bytes]) -> None:
    """PostgreSQL says what it does not understand: the record must not have from it what the text has lost."""
    book = Playbook()
    said = "syntax error at or near \"'hunter2'\""
    book.take(client(asked("ALTER ROLE bob PASSWORD 'x' 'hunter2'; ALTER ROLE bob PASSWORD 'hunter2'")))
    book.take(server(error("42601", said), READY))
    start, end = book.records[0], book.records[-1]
    assert isinstance(start, StatementStart)
    assert isinstance(end, StatementEnd)
    assert start.masked
    assert end.message == "syntax error at or near \"'***'\""


def test_every_field() -> None:
    """What a start and an end say, to the byte and the nanosecond."""
    book = Playbook()
    book.take(client(query("BEGIN; SELECT 1")), server(ROWS), server(ROW, complete("BEGIN"), complete("SELECT 3")))
    book.take(server(READY_IN))
    start, end = book.records
    assert start == StatementStart(statement=1, kind="query", sql="BEGIN; SELECT 1", state="I", transaction=1)
    assert end == StatementEnd(
        statement=1,
        tags=["BEGIN", "SELECT 3"],
        rows=3,
        duration=3,
        bytes_in=21,
        bytes_out=7 + 7 + 11 + 14 + 6,
        state="T",
    )


def test_several_statements_in_a_query() -> None:
    """Each tag counts, up to the error that ends the query."""
    assert play(
        client(query("INSERT 1; INSERT 2; SELECT 1/0; INSERT 3")),
        server(complete("INSERT 0 1"), complete("INSERT 0 2"), error(), READY),
        client(query("")),
        server(EMPTY, READY),
    ) == [
        "1> INSERT 1; INSERT 2; SELECT 1/0; INSERT 3",
        "1< INSERT 0 1, INSERT 0 2, 22012 division by zero [I]",
        "2> ",
        "2<  [I]",
    ]


def test_queries_that_are_sent_ahead() -> None:
    """A failed query does not keep the next one from running."""
    assert play(client(query("bad"), query("good")), server(error(), READY), server(complete("SELECT 1"), READY)) == [
        "1> bad",
        "2> good",
        "1< 22012 division by zero [I]",
        "2< SELECT 1 [I]",
    ]


def test_a_function_call() -> None:
    """It is a statement, with the function's OID for text."""
    book = Playbook()
    assert book.take(client(function(1598)), server(FUNCTION_RESULT, READY)) == ["1> function 1598", "1<  [I]"]
    assert book.take(client(function(1)), server(error(), READY_FAILED))[1] == "2< 22012 division by zero [E]"
    assert not book.tracker.busy


# --- extended queries


def test_an_extended_query() -> None:
    """Its text comes from Parse, its values from Bind, its bytes from both."""
    book = Playbook()
    assert book.take(
        client(parse("SELECT $1, $2"), bind("a", None), describe_portal(), execute(), SYNC),
        server(PARSED, BOUND, ROWS, ROW, complete("SELECT 1"), READY),
    ) == ["1> SELECT $1, $2 ['a', None]", "1< SELECT 1 [I]"]
    end = book.records[1]
    assert isinstance(end, StatementEnd)
    assert end.bytes_in == len(bind("a", None)) + len(execute())


def test_a_statement_that_is_prepared_once() -> None:
    """A named text is recorded when it is prepared, since SQL's EXECUTE can reach it, and again whenever it runs."""
    assert play(
        client(parse("SELECT $1", "s"), describe_statement("s"), SYNC),
        server(PARSED, types(25), ROWS, READY),
        client(bind("a", statement="s"), execute(), bind("b", statement="s"), execute(), SYNC),
        server(BOUND, complete("SELECT 1"), BOUND, complete("SELECT 0"), READY),
    ) == [
        "prepare: (s) SELECT $1",
        "1> (s) SELECT $1 ['a']",
        "2> (s) SELECT $1 ['b']",
        "1< SELECT 1 [I]",
        "2< SELECT 0 [I]",
    ]


def test_the_unnamed_statement_is_replaced() -> None:
    """Each Execute has the text that was the unnamed one's when its Bind came."""
    assert play(
        client(parse("one"), bind(), parse("two"), execute(), bind(), execute(), SYNC),
        server(PARSED, BOUND, PARSED, complete("A"), BOUND, complete("B"), READY),
    ) == ["1> one", "2> two", "1< A [I]", "2< B [I]"]


def test_after_an_error_all_is_skipped_up_to_sync() -> None:
    """Skipped statements say so; behind the Sync it goes on."""
    assert play(
        client(parse("bad"), bind(), execute(), bind(), execute(), query("skipped, too"), SYNC),
        client(parse("good"), bind(), execute(), SYNC),
        server(PARSED, BOUND, error(), READY),
        server(PARSED, BOUND, complete("SELECT 1"), READY),
    ) == [
        "1> bad",
        "2> bad",
        "3> skipped, too",
        "4> good",
        "1< 22012 division by zero [I]",
        "2< skipped [I]",
        "3< skipped [I]",
        "4< SELECT 1 [I]",
    ]


def test_what_is_sent_after_the_error_is_skipped_too() -> None:
    """The client learns of an error late; PostgreSQL skips until it says Sync. What it refused means nothing."""
    assert play(
        client(parse("nonsense"), FLUSH),
        server(error("42601", "syntax error")),
        client(bind(), execute(), query("DROP TABLE t")),
        client(SYNC),
        server(READY),
    ) == ["1> ", "2> DROP TABLE t", "1< skipped [I]", "2< skipped [I]"]


def test_a_refused_bind_is_its_execute_s_error() -> None:
    """The Execute behind it never ran: it carries the error."""
    assert play(
        client(parse("SELECT $1"), bind(), execute(), SYNC), server(PARSED, error("08P01", "supplies 0"), READY)
    ) == [
        "1> SELECT $1",
        "1< 08P01 supplies 0 [I]",
    ]


def test_a_commit_that_fails() -> None:
    """Sync commits; a deferred constraint that fails there is the last statement's error, and nothing is skipped."""
    assert play(
        client(parse("INSERT"), bind(), execute(), SYNC, query("SELECT 1")),
        server(PARSED, BOUND, complete("INSERT 0 1"), error("23505", "duplicate key"), READY),
        server(complete("SELECT 1"), READY),
    ) == [
        "1> INSERT",
        "2> SELECT 1",
        "1< INSERT 0 1, 23505 duplicate key [I]",
        "2< SELECT 1 [I]",
    ]


def test_a_commit_that_fails_overwrites_no_error() -> None:
    """A statement that has an error keeps it."""
    book = Playbook()
    book.take(client(parse("a"), bind(), execute(), SYNC), server(PARSED, BOUND, error()))
    assert book.take(server(error("40001", "late"), READY)) == ["1< 22012 division by zero [I]"]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_query_in_an_open_round_that_fails_itself(*, flushed: bool) -> None:
    """Behind a Bind that went well a failed Query is answered at once: what follows runs, and is not `skipped`."""
    ahead = [client(parse("a"), bind(), describe_portal(), FLUSH), server(PARSED, BOUND, ROWS, STATUS)]
    together = [client(parse("a"), bind(), describe_portal()), client(query("bad"), query("evil"))]
    heard = server(error(), READY, complete("DELETE 9"), READY)
    turns = (
        [*ahead, client(query("bad"), query("evil")), heard]
        if flushed
        else [*together, server(PARSED, BOUND, ROWS), heard]
    )
    assert play(*turns)[1:] == ["1> bad", "2> evil", "1< 22012 division by zero [I]", "2< DELETE 9 [I]"]


def test_a_query_in_an_open_round_that_is_skipped() -> None:
    """Behind a Bind that was refused PostgreSQL skips a Query, and has one ReadyForQuery for both."""
    assert play(
        client(parse("a"), bind("1"), query("never"), function(7), SYNC, query("next")),
        server(PARSED, error("08P01", "supplies 1"), READY, complete("SELECT 1"), READY),
    ) == [
        "bind '': a ['1']",
        "1> never",
        "2> function 7",
        "3> next",
        "1< 08P01 supplies 1 [I]",
        "2< skipped [I]",
        "3< SELECT 1 [I]",
    ]


def test_a_query_behind_a_described_statement() -> None:
    """Describe of a statement is answered by two messages; with both seen, an error is the Query's own."""
    assert play(
        client(parse("a"), describe_statement(), query("bad"), query("evil")),
        server(PARSED, types(), NO_DATA, error(), READY, complete("DELETE 9"), READY),
    ) == ["1> bad", "2> evil", "1< 22012 division by zero [I]", "2< DELETE 9 [I]"]


# --- portals


def test_a_portal_that_is_executed_in_parts() -> None:
    """PortalSuspended comes when all the rows that were asked for are sent."""
    assert play(
        client(query("BEGIN")),
        server(complete("BEGIN"), READY_IN),
        client(parse("SELECT"), bind(portal="p"), execute("p", 2), SYNC),
        server(PARSED, BOUND, ROW, ROW, SUSPENDED, READY_IN),
        client(execute("p", 2), SYNC),
        server(ROW, complete("SELECT 1"), READY_IN),
    )[2:] == ["2> SELECT", "2< suspended after 2 [T]", "3> SELECT", "3< SELECT 1 [T]"]


def test_rounds_and_portals_can_be_told_apart() -> None:
    """Whoever runs the session again must know what shared a round, and which Execute made no portal of its own."""
    book = Playbook()
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(parse("a"), bind(portal="p"), execute("p", 1), execute("p", 1), parse("b"), bind(), execute()))
    book.take(client(query("c"), SYNC, bind(portal="p"), execute("p"), SYNC, execute("p"), SYNC, execute("q"), SYNC))
    starts = [one for one in book.records if isinstance(one, StatementStart)]
    assert [(one.sql, one.pipelined, one.continued) for one in starts] == [
        ("BEGIN", False, False),
        ("a", False, False),
        ("a", True, True),
        ("b", True, False),
        ("c", True, False),
        ("b", False, False),
        ("b", False, True),
        ("", False, False),
    ]


def test_a_portal_ends_with_its_transaction() -> None:
    """Where no transaction is open, Sync ends it; so does the query that commits. Then SQL can give its name away."""
    book = Playbook()
    book.take(client(parse("old"), bind(portal="p"), SYNC), server(PARSED, BOUND, READY))
    assert book.take(client(execute("p"), SYNC), server(error("34000", "no portal"), READY))[0] == "1> (portal p) "
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(client(bind(portal="p"), SYNC), server(BOUND, READY_IN))
    book.take(client(query("COMMIT; BEGIN; DECLARE p CURSOR FOR SELECT 2")), server(complete("COMMIT"), READY))
    assert book.take(client(execute("p"), SYNC))[0] == "4> (portal p) "


def test_a_pipelined_portal_outlives_the_round_before_it() -> None:
    """A Bind that was sent before the earlier Sync was answered is of the later round."""
    book = Playbook()
    book.take(client(parse("one"), bind(), execute(), SYNC, bind(portal="p")))
    book.take(server(PARSED, BOUND, complete("A"), READY))
    assert book.take(client(execute("p"), SYNC))[0] == "2> one"


def test_a_cursor_of_sql() -> None:
    """Its text is in the DECLARE; the Execute names it."""
    assert play(
        client(query("BEGIN; DECLARE c CURSOR FOR SELECT 1")),
        server(complete("BEGIN"), complete("DECLARE CURSOR"), READY_IN),
        client(describe_portal("c"), execute("c"), SYNC),
        server(ROWS, complete("FETCH 1"), READY_IN),
    )[2:] == ["2> (portal c) ", "2< FETCH 1 [T]"]


# --- what is answered without having been asked, and what is never answered


def test_nothing_was_asked() -> None:
    """Answers to nothing change nothing."""
    book = Playbook()
    answers = server(complete("SELECT 1"), PARSED, EMPTY, SUSPENDED, types(25), FUNCTION_RESULT, error(), READY)
    assert book.take(answers, server(message(b"G", b"\0\0\0"), message(b"H", b"\0\0\0"), READY)) == []
    assert not book.tracker.busy


def test_an_error_between_two_statements() -> None:
    """An ErrorResponse while nothing runs, as when an idle session is ended, is no statement's."""
    book = Playbook()
    assert book.take(client(query("a")), server(complete("A"), READY)) == ["1> a", "1< A [I]"]
    assert book.take(server(error("57P01", "terminating", "FATAL"))) == []
    assert book.tracker.fatal == {"S": "FATAL", "V": "FATAL", "C": "57P01", "M": "terminating"}


def test_nothing_counts_behind_terminate() -> None:
    """PostgreSQL does not read on."""
    book = Playbook()
    assert book.take(client(query("a"), TERMINATE, query("b"))) == ["1> a"]
    assert book.take(client(query("c"))) == []
    assert book.tracker.terminated


def test_a_bind_before_terminate_is_recorded() -> None:
    """It is forwarded, so it is in the journal."""
    assert play(client(parse("a"), bind(), TERMINATE)) == ["bind '': a"]


def test_the_session_ends_in_the_middle() -> None:
    """What was answered has its result, what runs or waits has none; no state can be told."""
    book = Playbook()
    book.take(client(parse("a"), bind(), execute(), bind(), execute(), SYNC, query("b")))
    book.take(server(PARSED, BOUND, complete("A")))
    assert book.close() == ["1< A [-]", "2<  [-]", "3<  [-]"]


def test_a_fatal_error() -> None:
    """It is the running statement's; what waits behind it is skipped; no ReadyForQuery follows."""
    book = Playbook()
    book.take(client(query("a"), query("b")), server(error("57P01", "terminating", "FATAL")))
    assert book.close() == ["1< 57P01 terminating [-]", "2< skipped [-]"]
    assert book.tracker.fatal is not None


def test_a_fatal_error_of_an_old_server() -> None:
    """PostgreSQL before 9.6 has no V field."""
    book = Playbook()
    book.take(client(query("a")), server(message(b"E", b"SPANIC\0CXX000\0Moh\0\0")))
    assert book.tracker.fatal == {"S": "PANIC", "C": "XX000", "M": "oh"}


# --- state


def test_transactions_are_numbered() -> None:
    """Statements of one transaction share its number: a block's, a round's; each query outside has its own."""
    book = Playbook()
    book.take(client(query("a")), server(complete("A"), READY))
    book.take(client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
    book.take(
        client(query("b")), server(error(), READY_FAILED), client(query("ROLLBACK")), server(complete("R"), READY)
    )
    book.take(client(parse("c"), bind(), execute(), bind(), execute(), SYNC, bind(), execute(), SYNC))
    starts = [one for one in book.records if isinstance(one, StatementStart)]
    assert [(one.sql, one.state, one.transaction) for one in starts] == [
        ("a", "I", 1),
        ("BEGIN", "I", 2),
        ("b", "T", 2),
        ("ROLLBACK", "E", 2),
        ("c", "I", 3),
        ("c", "I", 3),
        ("c", "I", 4),
    ]
    assert (book.tracker.statements, book.tracker.transaction) == (7, 4)


def test_what_is_open() -> None:
    """`busy`, `running` and `open` as a session goes: open is what no ReadyForQuery has closed."""
    book = Playbook()
    tracker: Tracker = book.tracker

    def now() -> tuple[bool, list[str], list[str]]:
        return tracker.busy, [one.sql for one in tracker.running], [one.sql for one in tracker.open]

    assert now() == (False, [], [])
    book.take(client(parse("a"), bind(), execute(), parse("b"), bind(), execute(), SYNC))
    assert now() == (True, ["a", "b"], ["a", "b"])
    book.take(server(PARSED, BOUND, complete("A")))
    assert now() == (True, ["b"], ["a", "b"])
    book.take(server(PARSED, BOUND, complete("B")))
    assert now() == (True, [], ["a", "b"])
    book.take(server(READY))
    assert now() == (False, [], [])


def test_the_state_of_a_hostile_server() -> None:
    """Whatever ReadyForQuery says, the state is one of three; in doubt the one that claims least."""
    book = Playbook()
    book.take(client(query("a")), server(complete("A"), message(b"Z", b"?")))
    assert book.tracker.state == "E"


@pytest.mark.parametrize(
    ("tag", "rows"),
    [
        (b"INSERT 0 5", 5),
        (b"SELECT 12", 12),
        (b"COPY 3", 3),
        (b"CREATE TABLE", 0),
        (b"", 0),
        (b"SELECT -1", 0),
        ("SELECT ٣".encode(), 0),
        (b"SELECT " + b"9" * 5_000, 0),
        (b"\xff 7", 7),
    ],
)
def test_rows_of_a_tag(tag: bytes, rows: int) -> None:
    """The last number of a command tag, where it is one that a record can hold."""
    book = Playbook()
    book.take(client(query("a")), server(complete(tag), READY))
    end = book.records[1]
    assert isinstance(end, StatementEnd)
    assert end.rows == rows


def test_close() -> None:
    """A closed name means nothing, even where it never meant anything."""
    assert play(
        client(parse("a", "s"), close_statement("s"), close_statement("t"), close_portal("p"), bind(statement="s")),
        client(execute(), SYNC),
        server(PARSED, CLOSED, CLOSED, CLOSED, error("26000", "no such statement"), READY),
    ) == ["prepare: (s) a", "bind '': (s) ", "1> (s) ", "1< 26000 no such statement [I]"]


def test_no_copy_without_copy() -> None:
    """A session without COPY has no record of one."""
    book = Playbook()
    book.take(client(query("a")), server(complete("A"), READY))
    assert not [one for one in book.records if isinstance(one, Copy)]


def test_other_rights() -> None:
    """What PostgreSQL reports of them is a record; other parameters are none of ours, malformed ones neither."""
    reported = [message(b"S", body) for body in (b"is_superuser\0off\0", b"TimeZone\0UTC\0", b"", b"is_superuser")]
    assert play(client(query("a")), server(*reported, complete("A"), READY), server(reported[0])) == [
        "1> a",
        "is_superuser = off",
        "is_superuser = ",
        "1< A [I]",
        "is_superuser = off",
    ]


def test_a_ready_for_query_behind_the_end() -> None:
    """No PostgreSQL sends it. The statement behind a Describe has one end even so."""
    book = Playbook()
    book.take(client(describe_portal(), query("a")), server(error("57P01", "gone", "FATAL"), READY))
    assert not book.tracker.busy
    assert book.close() == []
