"""A COPY's data on record: all of it, in order, under the statement that it is for."""

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.record import Chain, Copy, CopyData, decode
from proxy.wire.copying import PIECE_BYTES, fields, pieces
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
    copy_data,
    copy_fail,
    error,
    execute,
    parse,
    query,
    server,
)

ASKED = client(query("COPY t FROM STDIN"))
DONE = (client(COPY_DONE), server(complete("COPY 1"), READY))
BINARY = b"PGCOPY\n\xff\r\n\0" + bytes(8) + bytes(range(256)) + b"\xff\xff"


def play(*turns: Turn, full: bool = False) -> list[str]:
    """What a conversation is recorded as."""
    return Playbook(copy_data="full" if full else "in").take(*turns)


def recorded(book: Playbook, direction: str) -> bytes:
    """All data of this direction, end to end."""
    found = [one for one in book.records if isinstance(one, CopyData) and one.direction == direction]
    assert all(len(b64decode(one.base64)) <= PIECE_BYTES for one in found)
    return b"".join(b64decode(one.base64) for one in found)


def test_rows_of_a_chunk_are_one_record() -> None:
    """However many messages they come in, and whatever COPY format they are."""
    assert play(ASKED, server(COPY_IN), client(*[copy_data(b"1\n")] * 500), client(copy_data(b"2\n")), *DONE) == [
        "1> COPY t FROM STDIN",
        "1: in " + "1\n" * 500,
        "1: in 2\n",
        "1: copy in 1002",
        "1< COPY 1 [I]",
    ]


def test_every_split() -> None:
    """Messages cut at every offset: end to end it is the same data."""
    stream = copy_data(BINARY[:20]) + copy_data(b"") + copy_data(BINARY[20:]) + COPY_DONE
    for at in range(len(stream) + 1):
        book = Playbook(copy_data="in")
        book.take(ASKED, server(COPY_IN), client(stream[:at]), client(stream[at:]), server(complete("COPY 1"), READY))
        assert recorded(book, "in") == BINARY
        assert [one.bytes for one in book.records if isinstance(one, Copy)] == [len(BINARY)]


@given(rows=st.lists(st.binary(max_size=40) | st.integers(0, 3 * PIECE_BYTES).map(bytes), max_size=6), data=st.data())
def test_any_rows_in_any_chunks(rows: list[bytes], data: st.DataObject) -> None:
    """Both ways; what stands on record is what was copied, in pieces that fit a record."""
    stream = b"".join(map(copy_data, rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    book = Playbook(copy_data="full")
    book.take(ASKED, server(COPY_IN), *map(client, chunks), *DONE)
    book.take(client(query("COPY t TO STDOUT")), server(COPY_OUT), *map(server, chunks), server(COPY_DONE))
    book.take(server(complete("COPY 1"), READY))
    assert recorded(book, "in") == recorded(book, "out") == b"".join(rows)
    assert [one.bytes for one in book.records if isinstance(one, Copy)] == [len(b"".join(rows))] * 2


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 2])
def test_pieces(size: int) -> None:
    """None is longer than a record may be, and none is empty."""
    found = pieces(1, "out", bytes(size))
    assert sum(len(b64decode(one.base64)) for one in found) == size
    assert all(0 < len(b64decode(one.base64)) <= PIECE_BYTES for one in found)


@given(
    st.builds(
        CopyData, statement=st.integers(1, 2**40), direction=st.sampled_from(["in", "out"]), base64=st.just("/+==")
    )
)
def test_its_line(piece: CopyData) -> None:
    """Is what msgspec would write."""
    line = Chain("ses_1").seal_fields("copy.data", fields(piece))
    assert Chain("ses_1").seal(piece, at=decode(line).at) == line


def test_sent_ahead() -> None:
    """Each COPY's data stands behind its own statement, before anybody knows whether it will be taken."""
    assert play(
        client(query("COPY a FROM STDIN"), copy_data(b"1"), COPY_DONE, query("COPY b FROM STDIN"), copy_data(b"2")),
        client(copy_data(b"3"), COPY_DONE),
        server(COPY_IN, complete("COPY 1"), READY, COPY_IN, complete("COPY 2"), READY),
    ) == [
        "1> COPY a FROM STDIN",
        "1: in 1",
        "2> COPY b FROM STDIN",
        "2: in 2",
        "2: in 3",
        "1: copy in 1",
        "1< COPY 1 [I]",
        "2: copy in 2",
        "2< COPY 2 [I]",
    ]


def test_in_a_pipeline() -> None:
    """Extended protocol, all of it sent ahead."""
    asked = [parse("COPY t FROM STDIN"), bind(), execute(), copy_data(b"1"), COPY_DONE, SYNC]
    assert play(client(*asked), server(PARSED, BOUND, COPY_IN, complete("COPY 1"), READY)) == [
        "1> COPY t FROM STDIN",
        "1: in 1",
        "1: copy in 1",
        "1< COPY 1 [I]",
    ]


@pytest.mark.parametrize("ends", [copy_fail(), COPY_DONE], ids=["by the client", "by PostgreSQL"])
def test_a_copy_that_fails(ends: bytes) -> None:
    """What was sent is on record, and that it failed."""
    assert play(ASKED, server(COPY_IN), client(copy_data(b"x"), ends), server(error("22P02", "no"), READY)) == [
        "1> COPY t FROM STDIN",
        "1: in x",
        "1: copy in 1 failed",
        "1< 22P02 no [I]",
    ]


def test_a_copy_that_is_refused() -> None:
    """It never began: what was sent ahead is on record under the statement, and forgotten by PostgreSQL."""
    assert play(
        client(query("COPY no FROM STDIN"), copy_data(b"x"), COPY_DONE), server(error("42P01", "no"), READY)
    ) == [
        "1> COPY no FROM STDIN",
        "1: in x",
        "1< 42P01 no [I]",
    ]


@pytest.mark.parametrize("answered", [server(error("22P02", "no"), READY), server(error("22P02", "no"))])
def test_data_behind_a_failure(answered: Turn) -> None:
    """PostgreSQL forgets it, and nothing of the failed COPY stands behind its record."""
    book = Playbook(copy_data="in")
    book.take(ASKED, server(COPY_IN), answered)
    assert book.take(client(copy_data(b"late"), COPY_DONE)) == []


def test_data_of_nothing() -> None:
    """Where no statement was asked for."""
    assert play(client(copy_data(b"stray"))) == []


def test_a_session_that_is_cut() -> None:
    """In the middle of a row: as far as it had come."""
    book = Playbook(copy_data="in")
    book.take(ASKED, server(COPY_IN), client(copy_data(b"12345")[:-2]))
    assert [*map(str, book.close())] == ["1: copy in 3 failed", "1<  [-]"]
    assert recorded(book, "in") == b"123"


def test_two_copies_in_one_query() -> None:
    """The sizes tell whose data is whose."""
    assert play(
        client(query("COPY a FROM STDIN; COPY b FROM STDIN")),
        server(COPY_IN),
        client(copy_data(b"1"), COPY_DONE, copy_data(b"22"), COPY_DONE),
        server(complete("COPY 1"), COPY_IN, complete("COPY 1"), READY),
    ) == [
        "1> COPY a FROM STDIN; COPY b FROM STDIN",
        "1: in 1",
        "1: in 22",
        "1: copy in 1",
        "1: copy in 2",
        "1< COPY 1, COPY 1 [I]",
    ]


def test_data_out() -> None:
    """Only where all is asked for."""
    turns = client(query("COPY t TO STDOUT")), server(COPY_OUT, copy_data(b"1"), copy_data(b"2"), COPY_DONE)
    ends = server(complete("COPY 2"), READY)
    assert play(*turns, ends) == ["1> COPY t TO STDOUT", "1: copy out 2", "1< COPY 2 [I]"]
    assert play(*turns, ends, full=True) == ["1> COPY t TO STDOUT", "1: out 12", "1: copy out 2", "1< COPY 2 [I]"]


def test_both_directions() -> None:
    """Each has its pieces and its size."""
    assert play(
        client(query("START_REPLICATION 0/0")),
        server(COPY_BOTH, copy_data(b"wal")),
        client(copy_data(b"status"), COPY_DONE),
        server(COPY_DONE, complete("COPY 0"), READY),
        full=True,
    ) == [
        "1> START_REPLICATION 0/0",
        "1: out wal",
        "1: in status",
        "1: copy both 9 (6 in)",
        "1< COPY 0 [I]",
    ]
