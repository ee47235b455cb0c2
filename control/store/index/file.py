"""The index's file: its tables, where it goes on, and how it is thrown away."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = 1
"""Of what is in it. A file of another one is cleared away, and made anew."""
BUSY_S: Final = 60.0
"""What a writer waits for the other one: `curfew-control reindex` for the indexer's piece, or this one for that."""
CACHE_KIB: Final = 65_536
_INDEXING: Final = (
    "CREATE TABLE indexing (one INTEGER PRIMARY KEY, next INTEGER NOT NULL, digest BLOB NOT NULL,"
    " clearing INTEGER NOT NULL)"
)
TABLES: Final = ("statements", "shapes", "terms", "postings", "repeats", "begun", "blocks", "texts")
_SCHEMA: Final = (
    # The statement's record is leaf `id` of the log: its start, what was prepared, or the end that says what ran.
    """CREATE TABLE statements (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, statement INTEGER, kind TEXT NOT NULL,
    at INTEGER NOT NULL, shape INTEGER NOT NULL, class TEXT, rows INTEGER, duration INTEGER, sqlstate TEXT)""",
    # What texts are, once for all that are the same but for their values (`control.evidence.parsed`).
    "CREATE TABLE shapes (number INTEGER PRIMARY KEY, parsed BLOB NOT NULL, digest BLOB NOT NULL UNIQUE)",
    # What a statement can be found by: a person, a target, a class, a table, ...
    "CREATE TABLE terms (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name))",
    # Which statements of a block have a term (`places`). The key is the term and the block.
    "CREATE TABLE postings (key INTEGER PRIMARY KEY, places BLOB NOT NULL)",
    # Where else in its block the text of the statement `id` comes.
    "CREATE TABLE repeats (id INTEGER PRIMARY KEY, places BLOB NOT NULL)",
    # What had not ended when the last piece was taken in.
    """CREATE TABLE begun (session INTEGER, statement INTEGER, id INTEGER, PRIMARY KEY (session, statement, id))
    WITHOUT ROWID""",
    # Between which times the statements of a block are: their order is that of arrival, not of time.
    "CREATE TABLE blocks (number INTEGER PRIMARY KEY, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL)",
    # By every three characters. Contentless: the text is in the record. Without positions: what is found is held
    # against the text anyway.
    """CREATE VIRTUAL TABLE texts USING fts5
    (text, content='', columnsize=0, detail='none', tokenize='trigram case_sensitive 1')""",
    # Texts of a whole piece are sorted in memory before they are written: fewer pieces to be merged later.
    "INSERT INTO texts (texts, rank) VALUES ('hashsize', 16777216)",
)


FileError = sqlite3.Error
"""What is raised where the file, or that of the books, does not do its work."""


class StaleError(Exception):
    """The index was made by another version of this, and is to be made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the index goes on, and whether what there is of it is to be thrown away first."""

    next: int
    digest: bytes
    """Of the record before, by which a log that is another one is found out."""
    clearing: bool


def path_beside(books: Path) -> Path:
    """Where the index to these books is."""
    return books.with_name(f"{books.stem}-index{books.suffix}")


def open_to_write(path: Path) -> sqlite3.Connection:
    """The index, made where there is none. One writer at a time; it may be used in any thread, one at a time."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # What a machine that dies takes away of it is made again from the records.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"cache_size = -{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        with writing(connection):
            made_by = _version(connection)
            if made_by != VERSION:
                connection.execute("DROP TABLE IF EXISTS indexing")
                connection.execute(_INDEXING)
                connection.execute("INSERT INTO indexing VALUES (1, 0, x'', ?)", (made_by != 0,))
                connection.execute(f"PRAGMA user_version = {VERSION}")
            if made_by == 0:
                for table in _SCHEMA:
                    connection.execute(table)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path, books: Path) -> sqlite3.Connection | None:
    """The index and, as `books`, the log with it; None where there is no index yet. Raises StaleError."""
    if not path.exists():
        return None
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("query_only = ON", f"cache_size = -{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS books", (str(books),))
        made_by = _version(connection)
        if made_by not in (0, VERSION):
            raise StaleError(f"{path}: is of version {made_by}")
    except BaseException:
        connection.close()
        raise
    if made_by == 0:
        connection.close()
        return None
    return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA main.user_version").fetchone()
    return int(version)


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes. Committed where the block ends well, and gone as a whole where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def cursor(connection: sqlite3.Connection) -> Cursor:
    """Where the index goes on."""
    following, digest, clearing = connection.execute("SELECT next, digest, clearing FROM main.indexing").fetchone()
    return Cursor(next=following, digest=digest, clearing=bool(clearing))


def move(connection: sqlite3.Connection, to: Cursor) -> None:
    """The index goes on there."""
    values = (to.next, to.digest, to.clearing)
    connection.execute("UPDATE indexing SET next = ?, digest = ?, clearing = ?", values)


def clear(connection: sqlite3.Connection) -> None:
    """Throw all of it away, and go on from the first record. Nobody waits for it but whoever searches."""
    with writing(connection):
        for table in TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for table in _SCHEMA:
            connection.execute(table)
        move(connection, Cursor(next=0, digest=b"", clearing=False))
