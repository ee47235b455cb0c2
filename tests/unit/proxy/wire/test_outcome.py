"""What became of the work that was open when a session was ended: each answer, and where only "unknown" is honest."""

import pytest

from proxy.wire.commits import may_commit_inside
from proxy.wire.outcome import Fate, Scene, outcome
from tests.unit.proxy.wire.playbook import (
    BOUND,
    COPY_IN,
    EMPTY,
    PARSED,
    READY,
    READY_FAILED,
    READY_IN,
    SYNC,
    Playbook,
    Turn,
    bind,
    client,
    close_statement,
    complete,
    error,
    execute,
    parse,
    query,
    server,
)

BEGIN = (client(query("BEGIN")), server(complete("BEGIN"), READY_IN))
PIPELINE = client(parse("INSERT"), bind(), execute(), bind(), execute(), SYNC)
FATAL = server(error("57P01", "terminating", "FATAL"))


def ended(before: tuple[Turn, ...], after: tuple[Turn, ...] = (), fate: Fate = None) -> str:
    """The outcome of a session that was decided to end between these turns."""
    book = Playbook()
    book.take(*before)
    scene = Scene.of(book.tracker)
    book.take(*after)
    return outcome(book.tracker, scene, fate=fate)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (), "nothing open"),
        ((client(query("INSERT")), server(complete("INSERT 0 1"), READY)), (), "nothing open"),
        (BEGIN, (), "rolled back"),
        ((*BEGIN, client(query("x")), server(error(), READY_FAILED)), (), "rolled back"),
    ],
    ids=["untouched", "idle", "idle in transaction", "idle in failed transaction"],
)
def test_nothing_was_running(before: tuple[Turn, ...], after: tuple[Turn, ...], expected: str) -> None:
    """An idle session: only a transaction can have been open."""
    assert ended(before, after) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (server(complete("INSERT 0 1"), READY), "committed before"),
        (server(error(), READY), "rolled back"),
        (server(complete("BEGIN"), READY_IN), "rolled back"),
        (server(error(), READY_FAILED), "rolled back"),
    ],
)
def test_it_was_answered_meanwhile(answer: Turn, expected: str) -> None:
    """What was running came to its end between the decision and the backend's death."""
    assert ended((client(query("INSERT")),), (answer,)) == expected


@pytest.mark.parametrize(
    ("sql", "fate", "expected"),
    [
        ("INSERT", None, "rolled back"),
        ("INSERT", "none", "rolled back"),
        ("INSERT", "aborted", "rolled back"),
        ("INSERT", "committed", "committed before"),
        ("VACUUM", None, "unknown"),
        ("VACUUM", "aborted", "unknown"),
        ("COMMIT", "committed", "committed before"),
        ("CALL p()", "committed", "partly committed"),
        ("INSERT; COMMIT; INSERT", "aborted", "unknown"),
    ],
)
def test_a_statement_was_cut_short(sql: str, fate: Fate, expected: str) -> None:
    """Its transaction's fate decides, unless it may have had several."""
    assert ended((client(query(sql)),), (FATAL,), fate) == expected


def test_a_statement_in_a_transaction_was_cut_short() -> None:
    """The transaction dies with it, unless the statement could commit it."""
    assert ended((*BEGIN, client(query("INSERT"))), (FATAL,), "aborted") == "rolled back"
    assert ended((*BEGIN, client(query("COMMIT"))), (FATAL,), "committed") == "committed before"
    assert ended((*BEGIN, client(query("COMMIT"))), (FATAL,)) == "unknown"


def test_a_commit_was_seen() -> None:
    """A tag says that a part was committed before the rest was cut."""
    asked = client(query("INSERT; COMMIT; SELECT pg_sleep(9)"))
    heard = server(complete("INSERT 0 1"), complete("COMMIT"))
    assert ended((asked, heard), (FATAL,), "none") == "partly committed"


def test_a_part_was_committed() -> None:
    """The last transaction was committed, of a text that may have had more, and of which tags were seen."""
    asked = client(query("INSERT; COMMIT; INSERT"))
    assert ended((asked, server(complete("INSERT 0 1"))), (FATAL,), "committed") == "partly committed"


def test_a_pipeline_is_one_commit() -> None:
    """Its Sync commits all of it or nothing."""
    assert ended((PIPELINE,), (FATAL,), "aborted") == "rolled back"
    assert ended((PIPELINE, server(PARSED, BOUND, complete("INSERT 0 1"))), (FATAL,)) == "rolled back"
    assert ended((PIPELINE,), (FATAL,), "committed") == "committed before"


def test_an_empty_round_commits_nothing() -> None:
    """As a client leaves behind that drops a statement (Close, Sync) before its answers are there."""
    behind = client(close_statement("s"), SYNC)
    assert ended((PIPELINE, behind), (FATAL,)) == "rolled back"
    assert ended((PIPELINE, behind, behind), (FATAL,)) == "rolled back"
    assert ended((PIPELINE, behind, PIPELINE), (FATAL,)) == "unknown"


def test_two_rounds_are_two_commits() -> None:
    """What became of the first, nobody can tell from the last."""
    assert ended((PIPELINE, PIPELINE), (FATAL,), "aborted") == "unknown"
    assert ended((client(query("INSERT"), query("INSERT")),), (FATAL,)) == "unknown"


def test_nothing_can_be_told_any_more() -> None:
    """Answers that belong to nobody knows what: whatever they say."""
    copy = client(parse("COPY t FROM STDIN"), bind(), execute(), SYNC, query("INSERT"))
    lost = server(PARSED, BOUND, COPY_IN, error("P0001", "no"))
    assert ended((copy, lost), (server(READY, complete("INSERT 0 1"), READY),), "none") == "unknown"


def test_nobody_saw_it_die() -> None:
    """Neither a FATAL was heard nor its transaction known: an answer may have been lost behind a commit."""
    assert ended((client(query("INSERT")),)) == "unknown"
    assert ended((client(query("INSERT")),), fate="none") == "rolled back"
    assert ended((*BEGIN, client(query("INSERT")))) == "rolled back"


INSERT, FAIL, COMMIT = complete("INSERT 0 1"), error(), complete("COMMIT")
TWO = client(query("a"), query("b"))
EXECUTES = client(parse("a"), bind(), execute(), parse("b"), bind(), execute(), SYNC)
ROUNDS = client(parse("a"), bind(), execute(), SYNC, parse("b"), bind(), execute(), SYNC)
HEAD = (PARSED, BOUND)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((*BEGIN, client(query("ROLLBACK"))), server(complete("ROLLBACK"), READY), "rolled back"),
        ((*BEGIN, client(query("COMMIT"))), server(COMMIT, READY), "committed before"),
        ((*BEGIN, client(query("COMMIT"))), server(complete("ROLLBACK"), READY), "rolled back"),
        ((*BEGIN, client(query("COMMIT"))), server(FAIL, READY), "rolled back"),
        ((*BEGIN, client(query("COMMIT AND CHAIN"))), server(COMMIT, READY_IN), "partly committed"),
        ((*BEGIN, client(query("ROLLBACK TO s"))), server(complete("ROLLBACK"), READY_IN), "rolled back"),
        (
            (client(query("x; COMMIT; BEGIN; x")),),
            server(INSERT, COMMIT, complete("BEGIN"), READY_IN),
            "partly committed",
        ),
        ((client(query("x; COMMIT; x")),), server(INSERT, COMMIT, FAIL, READY), "partly committed"),
        ((client(query("BEGIN; x; ROLLBACK; x")),), server(complete("ROLLBACK"), INSERT, READY), "partly committed"),
        ((client(query("CALL p()")),), server(FAIL, READY), "unknown"),
        ((client(query("CALL p()")),), server(complete("CALL"), READY), "committed before"),
        ((client(query("")),), server(EMPTY, READY), "committed before"),
        ((TWO,), server(INSERT, READY, INSERT, READY), "committed before"),
        ((TWO,), server(FAIL, READY, INSERT, READY), "partly committed"),
        ((TWO,), server(INSERT, READY, FAIL, READY), "partly committed"),
        ((TWO,), server(FAIL, READY, FAIL, READY), "rolled back"),
        ((TWO,), server(INSERT, READY, complete("BEGIN"), READY_IN), "partly committed"),
        ((EXECUTES,), server(*HEAD, INSERT, *HEAD, INSERT, READY), "committed before"),
        ((EXECUTES,), server(*HEAD, INSERT, *HEAD, FAIL, READY), "rolled back"),
        ((ROUNDS,), server(*HEAD, INSERT, READY, *HEAD, FAIL, READY), "partly committed"),
        ((ROUNDS,), server(*HEAD, FAIL, READY, *HEAD, INSERT, READY), "partly committed"),
    ],
)
def test_several_were_answered_meanwhile(before: tuple[Turn, ...], after: Turn, expected: str) -> None:
    """Each round by itself: what one commit or one failure took with it."""
    assert ended(before, (after,)) == expected


@pytest.mark.parametrize(
    ("first", "fate", "expected"),
    [
        (server(INSERT, READY), "aborted", "partly committed"),
        (server(INSERT, READY), "committed", "committed before"),
        (server(FAIL, READY), "aborted", "rolled back"),
        (server(FAIL, READY), "committed", "partly committed"),
    ],
)
def test_one_was_answered_and_one_cut_short(first: Turn, fate: Fate, expected: str) -> None:
    """Between the decision and the death: what was answered counts too."""
    assert ended((TWO,), (first, FATAL), fate) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "COMMIT",
        "commit and chain",
        "INSERT; COMMIT; INSERT",
        "end",
        "INSERT;\n END",
        "INSERT; /* */ END",
        "INSERT; -- x\nEND WORK",
        "CALL p()",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "VACUUM",
        "vacuum (full) t",
        "CLUSTER",
        "REINDEX DATABASE d",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE DATABASE d",
        "DROP  DATABASE d",
        "DROP TABLESPACE s",
        "CREATE SUBSCRIPTION s",
        "ANALYZE",
        "EXECUTE s",
        "DO $$ BEGIN COMMIT; END $$",
        "DO 'BEGIN CALL p(); END'",
        "do language plpython3u $$ getattr(plpy, 'com' + 'mit')() $$",
        "SELECT 'a\\'; COMMIT; SELECT '",
        "SELECT 'a' -- ' \n; COMMIT",
        'SELECT 1 AS "it\'s"; COMMIT; SELECT 1 AS "it\'s"',
        "SELECT a$x$ FROM t; COMMIT; SELECT b$x$",
        "SELECT 1$x$ ' $x$; COMMIT; SELECT '1'",
        "SELECT '$$'; COMMIT; SELECT '$$'",
        "SELECT $a$ $b$ $a$; COMMIT; SELECT $b$ $b$",
    ],
)
def test_what_may_commit_inside(sql: str) -> None:
    """Keywords that commit, wherever a reader would lose them; in doubt, yes."""
    assert may_commit_inside(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "INSERT; INSERT",
        "BEGIN; INSERT",
        "ROLLBACK",
        "SELECT 'commit'",
        "SELECT 'it''s'; SELECT 'call'",
        "SELECT $$ commit $$",
        "SELECT $a$ commit; $$ call $a$",
        'SELECT 1 AS "commit"',
        "SELECT committed, recall, vacuumed FROM t",
        "SELECT CASE WHEN a THEN b END FROM t",
        "EXPLAIN ANALYZE SELECT 1",
        "DO $$ BEGIN INSERT INTO t VALUES (1); END $$",
        "SELECT 1 -- nothing",
        "SELECT $1, $2",
    ],
)
def test_what_cannot_commit_inside(sql: str) -> None:
    """The same words as texts, names and parts of words."""
    assert not may_commit_inside(sql)
