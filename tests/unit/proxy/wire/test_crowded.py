"""When too much is open for a client to be heard on: never while PostgreSQL waits for more of what it says."""

import pytest

from proxy.wire.steps import MOST_OPEN
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
    error,
    execute,
    parse,
    query,
    server,
)

MANY = SYNC * MOST_OPEN


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
