"""The index for searches: that it follows the log, and can be made anew."""

import pytest
import sqlalchemy as sa

from control.evidence.classification import classify
from control.evidence.parsed import Parsed
from control.operations import indexing
from control.operations.indexing import Indexer, alike
from control.store import statements
from control.tasks import spawn
from proxy.contract.record import Chain, Parameter, Ran, StatementEnd, StatementPrepare, StatementStart
from tests.harness.waiting import eventually
from tests.unit.control.desk import Desk, Edge, statement


@pytest.fixture
def indexer(desk: Desk) -> Indexer:
    """One that parses in this process: nothing here is hostile."""

    async def parse(sql: bytes) -> Parsed:
        return classify(sql)

    return Indexer(desk.services, parse)


async def catch_up(indexer: Indexer) -> int:
    """Take in all there is; in how many pieces."""
    pieces = 0
    while await indexer.step():
        pieces += 1
    return pieces


async def found(desk: Desk, query: str) -> list[str]:
    """The SQL of what a search finds."""
    return [item["sql"] for item in (await desk.ok("eve", "GET", f"/v1/search?{query}"))["items"]]


async def everything(desk: Desk) -> dict[str, list[tuple[object, ...]]]:
    """The whole index, but for the numbers that terms happen to have."""
    queries = {
        "statements": "SELECT * FROM statements ORDER BY id",
        "postings": "SELECT kind, name, statement FROM postings JOIN terms ON number = term ORDER BY 1, 2, 3",
        "terms": "SELECT kind, name, statements FROM terms ORDER BY 1, 2",
        "blocks": "SELECT * FROM blocks",
        "indexing": "SELECT * FROM indexing",
        "texts": "SELECT rowid FROM statement_texts WHERE statement_texts MATCH '\"ord\"' ORDER BY 1",
    }
    async with desk.services.store.read() as tx:
        return {
            name: [tuple(row) for row in (await tx.connection.execute(sa.text(query))).all()]
            for name, query in queries.items()
        }


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
    at_once = await everything(desk)
    assert len(at_once["statements"]) == len(at_once["texts"]) + 1 == 8
    monkeypatch.setattr(indexing, "RECORDS", 3)
    await indexing.make_anew(desk.services)
    assert await catch_up(indexer) > 5
    in_pieces = await everything(desk)
    assert in_pieces["terms"] != [], "and they may be counted twice, where a piece ends within a statement"
    assert {**in_pieces, "terms": None} == {**at_once, "terms": None}


async def test_making_it_anew_while_it_is_searched(
    desk: Desk, edge: Edge, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cleared away bit by bit, nobody is answered from half of it, and then it is there again."""
    monkeypatch.setattr(statements, "CLEARED_AT_ONCE", 20)
    assert (await edge.ship(*edge.session("one", statements=50))).is_success
    await catch_up(indexer)
    await indexing.make_anew(desk.services)
    for _ in range(10):
        assert await indexer.step()
        refused = await desk.call("eve", "GET", "/v1/search")
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:curfew:problem:not-ready"
    await catch_up(indexer)
    assert len(await found(desk, "class=select")) == 50
    assert len(await found(desk, "text=select")) == 50


async def test_the_index_steps_aside(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """Whoever wants to write while the index does not yet, goes first."""
    assert (await edge.ship(*edge.session("one"))).is_success
    store = desk.services.store
    async with store.write() as tx:
        stepping = spawn("index", indexer.step())
        await eventually(lambda: store._idle._waiters)
        async with store._engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT next FROM indexing"))).scalar() == 0
        tx.touch("nothing")
    assert await stepping
    assert await found(desk, "text=select") == ["SELECT 1"]


async def test_the_lag_is_told(desk: Desk, edge: Edge, indexer: Indexer) -> None:
    """In records: by the metric, and in every answer."""
    assert (await edge.ship(*edge.session("one", statements=3))).is_success
    assert (await desk.ok("eve", "GET", "/v1/search"))["behind"] == 8
    await catch_up(indexer)
    assert (await desk.ok("eve", "GET", "/v1/search"))["behind"] == 0
    assert "curfew_control_index_lag_records 0.0" in (await desk.call(None, "GET", "/metrics")).text


async def test_the_service_follows_by_itself(desk: Desk, edge: Edge) -> None:
    """The commit of records wakes it."""
    following = spawn("index", indexing.follow(desk.services))
    try:
        assert (await edge.ship(*edge.session("one"))).is_success
        gauge = desk.services.metrics.index_lag

        async def there() -> bool:
            return await found(desk, "text=select") == ["SELECT 1"]

        await eventually(there)
        assert gauge._value.get() == 0
    finally:
        desk.services.stop()
        await following


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
    ],
)
def test_which_texts_are_alike(one: str, other: str, *, same: bool) -> None:
    """Numbers may differ where they cannot be a part of a name."""
    assert (alike(one) == alike(other)) is same
