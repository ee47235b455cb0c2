"""The index for searches: that it follows the log, and can be made anew."""

import os
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from control.evidence.classification import classify
from control.evidence.parsed import Parsed
from control.evidence.shapes import alike
from control.operations import indexing
from control.operations.indexing import Indexer
from control.store.index.file import path_beside
from control.store.index.places import unpack
from control.tasks import spawn
from proxy.contract.record import Chain, Parameter, Ran, StatementEnd, StatementPrepare, StatementStart
from tests.harness.waiting import eventually
from tests.unit.control.desk import Desk, Edge, statement


@pytest.fixture
def indexer(desk: Desk) -> Iterator[Indexer]:
    """One that parses in this process: nothing here is hostile."""

    async def parse_all(texts: Sequence[bytes]) -> Sequence[Parsed]:
        return [classify(one) for one in texts]

    books = desk.services.settings.database
    indexer = Indexer(books, path_beside(books), parse_all)
    yield indexer
    indexer.close()


async def catch_up(indexer: Indexer) -> int:
    """Take in all there is; in how many pieces."""
    pieces = 0
    while await indexer.step():
        pieces += 1
    return pieces


async def found(desk: Desk, query: str) -> list[str]:
    """The SQL of what a search finds."""
    return [item["sql"] for item in (await desk.ok("eve", "GET", f"/v1/search?{query}"))["items"]]


def everything(desk: Desk) -> dict[str, list[tuple[object, ...]]]:
    """The whole index, but for the numbers that terms happen to have."""
    path = path_beside(desk.services.settings.database)
    with closing(sqlite3.connect(path)) as index:
        rows = {
            "statements": "SELECT statements.*, parsed FROM statements JOIN shapes ON number = shape ORDER BY id",
            "blocks": "SELECT * FROM blocks",
            "indexing": "SELECT * FROM indexing",
            "begun": "SELECT * FROM begun",
            "repeats": "SELECT * FROM repeats ORDER BY id",
            "texts": "SELECT rowid FROM texts WHERE texts MATCH '\"ord\"' ORDER BY 1",
        }
        found = {name: index.execute(query).fetchall() for name, query in rows.items()}
        postings = (
            "SELECT kind, name, key & 16777215, places FROM postings JOIN terms ON number = key >> 24 ORDER BY 1, 2, 3"
        )
        found["postings"] = [(*head, unpack(places)) for *head, places in index.execute(postings)]
        return found


async def test_an_end_in_a_later_piece(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """A statement is found as soon as it is on record, and by what came of it once that is."""
    chain = Chain("one")
    begun, ended = statement(1, "DELETE FROM orders")
    assert isinstance(ended, StatementEnd)
    ended.rows, ended.sqlstate, ended.tags = 4_711, "23503", ["DELETE 4711"]
    assert (await edge.ship(chain.seal(edge.start()), chain.seal(begun))).is_success
    await catch_up(indexer)
    (item,) = (await desk.ok("eve", "GET", "/v1/search?class=delete"))["items"]
    assert (item["rows"], item["duration_s"], item["sqlstate"]) == (None, None, None)
    assert (await edge.ship(chain.seal(ended))).is_success
    await catch_up(indexer)
    (item,) = (await desk.ok("eve", "GET", "/v1/search?class=delete&rows_over=4710&sqlstate=23"))["items"]
    assert (item["rows"], item["duration_s"], item["sqlstate"]) == (4_711, 0.0015, "23503")


async def test_in_pieces_or_at_once(desk: Desk, edge: Edge, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is the same, wherever its pieces end; and made anew, whatever was in it before."""
    chain = Chain("one")
    lines = [chain.seal(edge.start())]
    for number in range(1, 8):
        lines += [chain.seal(record) for record in statement(number, f"UPDATE orders SET n = {number}")]
    ran = StatementEnd(statement=8, duration=1, rows=12, tags=["SELECT 12"])
    lines += [chain.seal(StatementStart(statement=8, kind="execute", sql="SELECT 1", state="I", transaction=8))]
    lines += [chain.seal(ran)]
    assert (await edge.ship(*lines)).is_success
    assert await catch_up(indexer) == 1
    at_once = everything(desk)
    assert len(at_once["statements"]) == len(at_once["texts"]) + 1 == 8
    monkeypatch.setattr(indexing, "RECORDS", 3)
    await indexing.make_anew(desk.services)
    assert await catch_up(indexer) > 5
    in_pieces = everything(desk)
    assert in_pieces == at_once


async def test_making_it_anew_while_it_is_searched(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """Nobody is answered from what is to be thrown away, and then it is there again."""
    assert (await edge.ship(*edge.session("one", statements=50))).is_success
    await catch_up(indexer)
    await indexing.make_anew(desk.services)
    refused = await desk.call("eve", "GET", "/v1/search")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:curfew:problem:not-ready"
    assert await indexer.step()
    answer = await desk.ok("eve", "GET", "/v1/search")
    assert (answer["items"], answer["behind"]) == ([], 102)
    await catch_up(indexer)
    assert len(await found(desk, "class=select")) == 50
    assert len(await found(desk, "text=select")) == 50


async def test_nobody_waits_for_the_index(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """Records are taken in while it writes, and it goes on while somebody writes the books."""
    assert (await edge.ship(*edge.session("one"))).is_success
    indexer.index.execute("BEGIN IMMEDIATE")
    assert (await edge.ship(*edge.session("two"))).is_success
    indexer.index.execute("ROLLBACK")
    async with desk.services.store.write():
        await catch_up(indexer)
    assert await found(desk, "text=select") == ["SELECT 1", "SELECT 1"]


async def test_another_log(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """A copy of the books is put in their place, which lacks what was indexed: the index is made anew from it."""
    assert (await edge.ship(*edge.session("one"))).is_success
    await catch_up(indexer)
    with closing(sqlite3.connect(desk.services.settings.database)) as books, books:
        books.execute("DELETE FROM records WHERE leaf > 1")
    assert await found(desk, "") == ["SELECT 1"]
    await catch_up(indexer)
    with closing(sqlite3.connect(desk.services.settings.database)) as books, books:
        books.execute("DELETE FROM records")
    await catch_up(indexer)
    assert await found(desk, "") == []


async def test_an_index_of_another_version(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """It is not looked into, and made anew by the next indexer."""
    assert (await edge.ship(*edge.session("one"))).is_success
    await catch_up(indexer)
    indexer.index.execute("PRAGMA user_version = 99")
    assert (await desk.call("eve", "GET", "/v1/search")).status_code == 503
    books = desk.services.settings.database
    with closing(Indexer(books, path_beside(books), indexer._parse_all)) as other:
        assert (await desk.call("eve", "GET", "/v1/search")).status_code == 503
        await catch_up(other)
    assert await found(desk, "text=select") == ["SELECT 1"]


async def test_a_piece_that_fails(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """Nothing of it is taken in, and it is whole once it can be."""
    assert (await edge.ship(*edge.session("one"))).is_success
    indexer.index.execute("CREATE TRIGGER no BEFORE INSERT ON postings BEGIN SELECT raise(abort, 'no'); END")
    for _ in range(2):
        with pytest.raises(sqlite3.IntegrityError):
            await indexer.step()
    assert await found(desk, "") == []
    indexer.index.execute("DROP TRIGGER no")
    await catch_up(indexer)
    assert await found(desk, "person=ada&text=select") == ["SELECT 1"]


async def test_the_lag_is_told(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """In records: by the metric, and in every answer."""
    assert (await edge.ship(*edge.session("one", statements=3))).is_success
    assert (await desk.ok("eve", "GET", "/v1/search"))["behind"] == 8
    await catch_up(indexer)
    assert (await desk.ok("eve", "GET", "/v1/search"))["behind"] == 0
    assert "curfew_control_index_lag_records 0.0" in (await desk.call(None, "GET", "/metrics")).text


async def test_the_service_follows_by_itself(desk: Desk, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, which the commit of records wakes, and which is replaced where it dies."""
    monkeypatch.setattr(indexing, "AGAIN_S", 0.01)
    following = spawn("index", indexing.follow(desk.services))
    gauge = desk.services.metrics.index_lag
    try:
        for number, name in enumerate(("one", "two"), start=1):
            assert (await edge.ship(*edge.session(name))).is_success

            async def there(wanted: int = number) -> bool:
                return len(await found(desk, "text=select")) == wanted

            await eventually(there, within=60)
            await eventually(lambda: gauge._value.get() == 0)
            (pid,) = _indexers()
            os.kill(pid, signal.SIGKILL)
    finally:
        desk.services.stop()
        await following
    assert _indexers() == []


def _indexers() -> list[int]:
    """The indexers that this process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            if b"control.indexer" in words and int(parent) == os.getpid():
                found.append(int(path.name))
    return found


async def test_what_ran_instead_is_found(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """An Execute that turned out to be of another text: by both, with one number."""
    chain = Chain("one")
    start = StatementStart(statement=1, kind="execute", sql="SELECT 1", state="I", transaction=1)
    line = chain.seal(edge.start()), chain.seal(start)
    ended = StatementEnd(statement=1, duration=1, rows=2, tags=["DELETE 2"], ran=Ran(sql="DELETE FROM salaries"))
    assert (await edge.ship(*line, chain.seal(ended))).is_success
    await catch_up(indexer)
    items = (await desk.ok("eve", "GET", "/v1/search?session=one"))["items"]
    assert [(item["sql"], item["statement"], item["rows"]) for item in items] == [
        ("DELETE FROM salaries", 1, 2),
        ("SELECT 1", 1, 2),
    ]
    assert await found(desk, "written=salaries") == ["DELETE FROM salaries"]


async def test_what_is_prepared_is_found(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """A named Parse can run by EXECUTE without a record that shows it again; values are searched too."""
    chain = Chain("one")
    prepared = StatementPrepare(
        sql="DELETE FROM orders WHERE name = $1",
        name="p",
        portal="",
        parameters=[
            Parameter(type=25, value="Müller"),
            Parameter(type=16, value=True),
            Parameter(type=25),
            Parameter(type=17, base64="AA=="),
        ],
    )
    said = [edge.start(), prepared, *statement(1, "EXECUTE p('x')")]
    assert (await edge.ship(*map(chain.seal, said))).is_success
    await catch_up(indexer)
    (item,) = (await desk.ok("eve", "GET", "/v1/search?text=MÜLLER"))["items"]
    assert (item["kind"], item["statement"], item["class"]) == ("prepare", None, "DELETE")
    assert await found(desk, "class=execute") == ["EXECUTE p('x')"]
    assert await found(desk, "class=select") == ["EXECUTE p('x')"], "as PostgreSQL's own tag said"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("SELECT 1 FROM t WHERE a = 22", "SELECT 333 FROM t WHERE a = 4", True),
        ("SELECT 'a 1'", "SELECT 'a 2'", True),
        ("SELECT * FROM t1", "SELECT * FROM t2", False),
        ('SELECT * FROM "t 1"', 'SELECT * FROM "t 2"', False),
        ('SELECT * FROM U&"t 1"', 'SELECT * FROM U&"t 2"', False),
        ("SELECT $x$ 1 $x$", "SELECT $x$ 2 $x$", False),
        (r"SELECT E'\' 1", r"SELECT E'\' 2", False),
        ("SELECT * FROM t WHERE a = 'x'", "SELECT * FROM t WHERE a = 'it''s y'", False),
        ("SELECT * FROM t WHERE a = 'it''s x'", "SELECT * FROM t WHERE a = 'it''s y'", True),
        ("SELECT 1 -- '\n; SELECT 2 --'", "SELECT 1 -- '\n; DROP TABLE t --'", False),
        ("SELECT 1 /* ' */; SELECT 2 --'", "SELECT 1 /* ' */; DROP TABLE t --'", False),
        (r"SELECT E'\'; SELECT 1 --'", r"SELECT E'\'; DROP TABLE t --'", False),
        ("SELECT $$'$$; SELECT 1, '", "SELECT $$'$$; DROP TABLE t, '", False),
        ("SELECT \"'\"; SELECT 1, '", "SELECT \"'\"; DROP TABLE t, '", False),
        ("SELECT 'a", "SELECT 'b", False),
    ],
)
def test_which_texts_are_alike(one: str, other: str, *, same: bool) -> None:
    """Numbers and literals may differ where they cannot be anything else: a DROP TABLE never hides behind a SELECT."""
    assert (alike(one) == alike(other)) is same
