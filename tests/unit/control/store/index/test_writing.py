"""What a later piece says of statements in an earlier block."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from control.store.index.file import open_to_write, writing
from control.store.index.places import BLOCK, unpack
from control.store.index.writing import BLOCKS_BITS, End, Piece, Row, Term, Writer

SHAPE = {b"digest": b"parsed"}
DELETE = ("class", "DELETE")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An index with nothing in it."""
    with closing(open_to_write(tmp_path / "index")) as connection:
        yield connection


def row(number: int, statement: int, word: str | None = None) -> Row:
    """A statement of session 7 that has not ended."""
    return [number, 7, statement, "query", 10 * number, b"digest", word, None, None, None]


def end(statement: int) -> End:
    """It has deleted three rows."""
    return End(
        session=7,
        statement=statement,
        rows=3,
        duration=9,
        sqlstate=None,
        terms={DELETE, ("rows", "1")},
        class_="DELETE",
    )


def add(index: sqlite3.Connection, piece: Piece, *, fresh: bool) -> None:
    """Take it in."""
    with writing(index):
        Writer(index).add(piece, fresh=fresh)


def places(index: sqlite3.Connection, term: Term) -> dict[int, list[int]]:
    """Which have a term, by block."""
    query = "SELECT key, places FROM postings JOIN terms ON number = key >> ? WHERE kind = ? AND name = ?"
    return {key & 2**BLOCKS_BITS - 1: list(unpack(one)) for key, one in index.execute(query, (BLOCKS_BITS, *term))}


def test_an_end_in_a_later_block(index: sqlite3.Connection) -> None:
    """It is found by it where it began, among those that were found by it already; and waits for no other end."""
    first = Piece(rows=[row(5, 1), row(6, 2, "EXECUTE")], shapes=SHAPE, begun=[(7, 1, 5), (7, 2, 6)], first_at=50)
    first.places = {DELETE: [9]}
    add(index, first, fresh=True)
    later = Piece(rows=[row(BLOCK + 1, 3)], shapes=SHAPE, places={DELETE: [BLOCK + 1]}, ends=[end(1), end(2), end(4)])
    add(index, later, fresh=True)
    assert places(index, DELETE) == {0: [5, 6, 9], 1: [1]}
    assert places(index, ("rows", "1")) == {0: [5, 6]}
    assert index.execute("SELECT id, class, rows FROM statements ORDER BY id").fetchall() == [
        (5, "DELETE", 3),
        (6, "EXECUTE", 3),
        (BLOCK + 1, None, None),
    ]
    assert index.execute("SELECT * FROM begun").fetchall() == []


def test_what_a_session_leaves_open(index: sqlite3.Connection) -> None:
    """Nothing more is to come of a statement whose session has ended."""
    add(index, Piece(rows=[row(5, 1)], shapes=SHAPE, begun=[(7, 1, 5), (8, 1, 6)]), fresh=True)
    add(index, Piece(over={7}), fresh=False)
    assert index.execute("SELECT * FROM begun").fetchall() == [(8, 1, 6)]


def test_the_times_of_a_block(index: sqlite3.Connection) -> None:
    """The first and the last of all its pieces, in whatever order they came."""
    for number, (first_at, last_at) in enumerate(((50, 60), (20, 30), (40, 90))):
        piece = Piece(rows=[row(number, number)], shapes=SHAPE, first_at=first_at, last_at=last_at)
        add(index, piece, fresh=number == 0)
    assert index.execute("SELECT * FROM blocks").fetchall() == [(0, 20, 90)]
