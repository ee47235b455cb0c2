"""What bounds the open: a client is heard later, but never while PostgreSQL waits for more; what is done is let go."""

import tracemalloc

import pytest

from proxy.contract.record import StatementEnd
from proxy.wire.outcome import Scene, outcome
from proxy.wire.owed import MOST_OPEN
from tests.unit.proxy.wire.playbook import (
    BOUND,
    COPY_BOTH,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    PARSED,
    READY,
    SYNC,
    Playbook,
    Turn,
    bind,
    client,
    complete,
    ended,
    error,
    execute,
    parse,
    query,
    server,
)

MANY = SYNC * MOST_OPEN


ROUND = client(parse("a", "s"), bind(statement="s"), execute()), server(PARSED, BOUND, complete("INSERT 0 1"))
ONE_MORE = client(bind(statement="s"), execute()), server(BOUND, complete("INSERT 0 1"))


def piled(book: Playbook, count: int, *turns: Turn) -> list[StatementEnd]:
    """Play these turns so often; the ends that are let go at the end of it."""
    for _ in range(count):
        book.take(*turns)
    assert book.tracker.piled
    return let_go(book)


def let_go(book: Playbook) -> list[StatementEnd]:
    """The ends that are let go."""
    return [one for one in ended(book.tracker.let_go(book.now)) if isinstance(one, StatementEnd)]


def crowded(book: Playbook, *turns: Turn) -> bool:
    """Whether it is, after these."""
    book.take(*turns)
    return book.tracker.crowded


def test_much_is_open() -> None:
    """Until one answer has come."""
    book = Playbook()
    assert not crowded(book, client(MANY))
    assert crowded(book, client(SYNC))
    assert not crowded(book, server(READY))


def test_what_is_skipped() -> None:
    """After an error PostgreSQL answers nothing before it has read a Sync, which may not be here yet."""
    book = Playbook()
    book.take(client(parse("a"), bind(), execute()), server(PARSED, BOUND, error()))
    assert not crowded(book, client(execute() * (MOST_OPEN + 1)))
    assert not crowded(book, client(MANY, SYNC), server(READY))
    assert crowded(book, client(SYNC))


@pytest.mark.parametrize(("answer", "waits"), [(COPY_IN, False), (COPY_BOTH, False), (COPY_OUT, True)])
def test_a_copy(answer: bytes, *, waits: bool) -> None:
    """While PostgreSQL takes data it answers nothing, and reads Syncs over."""
    book = Playbook()
    assert crowded(book, client(query("COPY"), MANY))
    assert crowded(book, server(answer)) is waits


def test_a_copy_that_is_ended() -> None:
    """From CopyDone on an answer comes."""
    book = Playbook()
    assert crowded(book, client(query("COPY")), server(COPY_IN), client(COPY_DONE, MANY))
    assert not crowded(book, server(complete("COPY 0"), READY))


def test_a_round_without_a_sync() -> None:
    """Its ends are let go as they pile up, all but the last; ReadyForQuery tells the state of those that are left."""
    book = Playbook()
    book.take(*ROUND)
    ends = piled(book, MOST_OPEN, *ONE_MORE)
    assert [one.statement for one in ends] == list(range(1, MOST_OPEN + 1))
    assert {(*one.tags, one.state) for one in ends} == {("INSERT 0 1", None)}
    assert not book.tracker.piled
    assert [step.statement for step in book.tracker.open] == [MOST_OPEN + 1]
    assert book.take(*ONE_MORE, client(SYNC), server(READY))[-2:] == [
        f"{MOST_OPEN + 1}< INSERT 0 1 [I]",
        f"{MOST_OPEN + 2}< INSERT 0 1 [I]",
    ]


def test_the_error_of_its_commit() -> None:
    """It is laid on the round's last statement, which is never let go."""
    book = Playbook()
    book.take(*ROUND)
    piled(book, MOST_OPEN, *ONE_MORE)
    told = book.take(client(SYNC), server(error("23503", "deferred"), READY))
    assert told == [f"{MOST_OPEN + 1}< INSERT 0 1, 23503 deferred [I]"]


def test_a_round_that_is_skipped_without_end() -> None:
    """Behind an error PostgreSQL answers nothing, and may be sent statements for ever: they are done, too."""
    book = Playbook()
    book.take(client(parse("a"), bind(), execute()), server(PARSED, BOUND, error("22012", "no")))
    ends = piled(book, 1, client(execute() * (MOST_OPEN + 1)))
    assert len(ends) == MOST_OPEN + 1
    assert [(one.statement, one.sqlstate, one.skipped) for one in ends[:2]] == [(1, "22012", False), (2, None, True)]
    assert not book.tracker.piled
    assert book.take(client(SYNC), server(READY)) == [f"{MOST_OPEN + 2}< skipped [I]"]
    assert not book.tracker.busy


def test_behind_a_sync_that_ends_the_skipping() -> None:
    """An answer comes, so the client can wait for it: nothing is let go that may not be skipped."""
    book = Playbook()
    book.take(client(parse("a"), bind(), execute()), server(PARSED, BOUND, error("22012", "no")))
    book.take(client(SYNC, execute() * MOST_OPEN))
    assert book.tracker.crowded
    assert let_go(book) == []
    book.take(server(READY, complete("SELECT 1")))
    assert not book.tracker.crowded


def test_what_nobody_can_tell_apart() -> None:
    """Behind a failed COPY that may have swallowed a Sync, without end: the session must end, for it has no bound."""
    book = Playbook()
    book.take(client(parse("COPY t FROM STDIN"), bind(), execute(), SYNC), server(PARSED, BOUND, COPY_IN))
    book.take(server(error("22P02", "no")), client(execute() * (MOST_OPEN + 1)))
    assert book.tracker.piled
    assert let_go(book) == []
    assert book.tracker.lost


@pytest.mark.parametrize(
    ("tag", "sql", "became"),
    [("INSERT 0 1", "INSERT", "rolled back"), ("COMMIT", "COMMIT", "unknown"), ("CALL", "CALL p()", "unknown")],
)
def test_the_outcome_of_such_a_round(tag: str, sql: str, became: str) -> None:
    """What was let go counts: where it may have committed, nothing is claimed."""
    book = Playbook()
    book.take(client(parse(sql, "s"), parse("INSERT", "last")), server(PARSED, PARSED))
    one = client(bind(statement="s"), execute()), server(BOUND, complete(tag))
    for _ in range(MOST_OPEN + 1):
        book.take(*one)
    book.take(client(bind(statement="last"), execute()), server(BOUND, complete("INSERT 0 1")))
    let_go(book)
    assert outcome(book.tracker, Scene.of(book.tracker), fate="aborted") == became


def test_its_memory() -> None:
    """What is held of it stays the same, however long it goes on."""
    book = Playbook()
    book.take(*ROUND)
    tracemalloc.start()
    try:
        held = []
        for _ in range(3):
            piled(book, MOST_OPEN, *ONE_MORE)
            book.records.clear()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[2] - held[1] < 200_000
