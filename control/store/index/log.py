"""The log as the index reads it: by a connection that only reads, and that nobody who writes the log waits for."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from control.store.index.file import BUSY_S
from control.store.records import IN_ONE_QUERY

TELLING = 4_096
"""Bytes of a record by which it is known again: its session, its number and its place in the chain are among them."""


class Line(NamedTuple):
    """A record, as the index reads it. Of all ways to hold a row this one costs least."""

    leaf: int
    session: int
    line: bytes
    """Its beginning alone, where it is long."""
    size: int


def open_log(books: Path) -> sqlite3.Connection:
    """The log in these books."""
    connection = sqlite3.connect(books, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def newest_of(books: Path) -> int:
    """The newest leaf of the log in these books, -1 where it is empty."""
    with contextlib.closing(open_log(books)) as connection:
        (leaf,) = connection.execute("SELECT max(leaf) FROM records").fetchone()
    return -1 if leaf is None else int(leaf)


def lines(connection: sqlite3.Connection, first: int, *, below: int, size: int, longest: int) -> Sequence[Line]:
    """The log from the leaf `first` on and below another: at most so many bytes, or else one; of a long one less."""
    query = (
        "SELECT leaf, session, CASE WHEN length(line) > ? THEN substr(line, 1, ?) ELSE line END, length(line)"
        " FROM records WHERE leaf >= ? AND leaf < ? ORDER BY leaf"
    )
    found: list[Line] = []
    total = 0
    for row in map(Line._make, connection.execute(query, (longest, longest, first, below))):
        total += len(row.line)
        if total > size and found:
            break
        found.append(row)
    return found


def digest(connection: sqlite3.Connection, leaf: int) -> bytes:
    """By what the record that is this leaf is known again; nothing where there is none."""
    query = "SELECT substr(line, 1, ?) FROM records WHERE leaf = ?"
    row = connection.execute(query, (TELLING, leaf)).fetchone()
    return b"" if row is None else hashlib.sha256(row[0]).digest()


def people(connection: sqlite3.Connection, numbers: Collection[int]) -> Mapping[int, tuple[str | None, str | None]]:
    """The person and the target of each of these sessions."""
    found: dict[int, tuple[str | None, str | None]] = {}
    wanted = list(numbers)
    for start in range(0, len(wanted), IN_ONE_QUERY):
        part = wanted[start : start + IN_ONE_QUERY]
        marks = ",".join("?" * len(part))
        query = f"SELECT number, person, target FROM sessions WHERE number IN ({marks})"  # noqa: S608 marks alone
        found |= {number: (person, target) for number, person, target in connection.execute(query, part)}
    return found
