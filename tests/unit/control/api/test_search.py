"""Searching statements: who finds what, by what, and how far one search goes."""

from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from control.evidence.classification import classify
from control.evidence.indexed import LONG
from control.evidence.parsed import Parsed
from control.operations import search
from control.operations.indexing import Indexer
from control.store.index import reading
from control.store.index.file import path_beside
from control.times import SECOND
from proxy.contract.record import Chain, Parameter, StatementEnd, StatementStart
from tests.unit.control.desk import Desk, Edge

AT = 1_800_000_000 * SECOND
SAID = (
    ("ada", "SELECT * FROM orders", "SELECT 12", 12, None),
    ("ada", "UPDATE sales.orders SET paid = true", "UPDATE 5000", 5_000, None),
    ("ada", "begin; drop table Orders; select pg_sleep(1)", "DROP TABLE", 0, "42501"),
    ("bob", 'SELECT * FROM "Orders", salaries', "SELECT 100", 100, None),
    ("bob", "EXECUTE p('x')", "DELETE 3", 3, None),
    ("bob", "selec", "", 0, "42601"),
)


@pytest.fixture(autouse=True)
async def said(desk: Desk, edge: Edge) -> None:
    """Three statements of Ada's and three of Bob's, a minute apart, indexed."""
    chains = {name: Chain(f"{name}s") for name in ("ada", "bob")}
    lines = [chain.seal(edge.start(person=name), at=AT) for name, chain in chains.items()]
    for number, (who, sql, tag, rows, sqlstate) in enumerate(SAID, start=1):
        begun = StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number)
        ended = StatementEnd(statement=number, tags=[tag] if tag else [], rows=rows, duration=SECOND, sqlstate=sqlstate)
        lines += [chains[who].seal(one, at=AT + 60 * number * SECOND) for one in (begun, ended)]
    assert (await edge.ship(*lines)).is_success
    await indexed(desk)


async def indexed(desk: Desk) -> None:
    """Take in all there is."""

    async def parse_all(texts: Sequence[bytes]) -> Sequence[Parsed]:
        return [classify(one) for one in texts]

    books = desk.services.settings.database
    indexer = Indexer(books, path_beside(books), parse_all)
    try:
        while await indexer.step():
            pass
    finally:
        indexer.close()


async def numbers(desk: Desk, query: str, who: str = "eve") -> list[int]:
    """Which of the statements are found, in which order."""
    return [item["statement"] for item in (await desk.ok(who, "GET", f"/v1/search?{query}"))["items"]]


FOUND: tuple[tuple[str, list[int]], ...] = (
    ("", [6, 5, 4, 3, 2, 1]),
    ("person=ada", [3, 2, 1]),
    ("person=nobody", []),
    ("target=orders", [6, 5, 4, 3, 2, 1]),
    ("target=other", []),
    ("session=bobs", [6, 5, 4]),
    ("session=none", []),
    ("table=orders", [3, 2, 1]),
    ("table=ORDERS", [3, 2, 1]),
    ("table=sales.orders", [2]),
    ('table="Orders"', [4]),
    ("written=orders", [3, 2]),
    ("function=pg_sleep", [3]),
    ("class=select", [4, 3, 1]),
    ("class=drop++table", [3]),
    ("class=delete", [5]),
    ("class=execute", [5]),
    ("label=unparsed", [6]),
    ("sqlstate=42501", [3]),
    ("sqlstate=42", [6, 3]),
    ("rows_over=0", [5, 4, 2, 1]),
    ("rows_over=11", [4, 2, 1]),
    ("rows_over=100", [2]),
    ("rows_over=4999", [2]),
    ("rows_over=5000", []),
    ("text=sale", [2]),
    ("text=ORDERS", [4, 3, 2, 1]),
    ("text=select+*+from+orders", [1]),
    ("text=rders%22", [4]),
    ("text=ordersx", []),
    ("text=%25%25%25", []),
    ("since=2027-01-15T08:03:00Z", [6, 5, 4, 3]),
    ("until=2027-01-15T08:03:00Z", [2, 1]),
    ("since=2027-01-15T08:02:00Z&until=2027-01-15T08:04:00Z", [3, 2]),
    ("since=2028-01-15T08:02:00Z", []),
    ("person=ada&class=select&table=orders&text=from&rows_over=10&since=2027-01-15T08:00:00Z", [1]),
    ("person=ada&text=salaries", []),
)


async def test_what_is_found(desk: Desk) -> None:
    """What fits all that is asked, the newest first."""
    for query, found in FOUND:
        assert await numbers(desk, query) == found, query


@pytest.mark.parametrize("few", [0, 64])
async def test_a_text_beside_a_term(desk: Desk, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two is looked up first."""
    monkeypatch.setattr(reading, "FEW", few)
    assert await numbers(desk, "person=ada&text=orders") == [3, 2, 1]
    assert await numbers(desk, "person=ada&text=select+%2A") == [1]


async def test_who_finds_what(desk: Desk) -> None:
    """One's own, and auditors everything; an approver, who sees sessions, does not search them."""
    cases: list[tuple[str, str, list[int]]] = [
        ("ada", "", [3, 2, 1]),
        ("ada", "person=ada", [3, 2, 1]),
        ("ada", "person=bob", []),
        ("ada", "session=bobs", []),
        ("ada", "text=salaries", []),
        ("bob", "text=salaries", [4]),
        ("carol", "", []),
        ("eve", "text=salaries", [4]),
        ("root", "text=salaries", [4]),
    ]
    for who, query, found in cases:
        assert await numbers(desk, query, who) == found, (who, query)


async def test_nobody_else_searches(desk: Desk) -> None:
    """It takes a key."""
    assert (await desk.call(None, "GET", "/v1/search")).status_code == 401


async def test_what_cannot_be_asked(desk: Desk) -> None:
    """Each is refused, and nothing is looked up."""
    queries = [
        "text=ab",
        "text=" + "a" * 1_001,
        "sqlstate=4",
        "sqlstate=42p01",
        "sqlstate=%0a%0a",
        "rows_over=-1",
        "since=yesterday",
        "since=5",
        "limit=0",
        "limit=1001",
        "after=-1",
        "person=",
    ]
    for query in queries:
        assert (await desk.call("eve", "GET", f"/v1/search?{query}")).status_code == 422, query


async def test_an_answer(desk: Desk) -> None:
    """All that is known of a statement without its session's timeline."""
    (item,) = (await desk.ok("eve", "GET", "/v1/search?sqlstate=42501"))["items"]
    assert item == {
        "session": "adas",
        "statement": 3,
        "seq": 5,
        "kind": "query",
        "at": "2027-01-15T08:03:00.000000Z",
        "person": "ada",
        "target": "orders",
        "database": "shop",
        "sql": "begin; drop table Orders; select pg_sleep(1)",
        "size": 44,
        "masked": False,
        "class": "BEGIN",
        "classes": ["BEGIN", "DROP TABLE", "SELECT"],
        "tables": [{"name": "orders", "written": True}],
        "functions": ["pg_sleep"],
        "label": None,
        "rows": 0,
        "duration_s": 1.0,
        "sqlstate": "42501",
    }


async def test_page_by_page(desk: Desk) -> None:
    """Each statement once, in order, however small the pages."""
    for query in ("", "text=orders", "class=select"):
        whole, pages, after = await numbers(desk, query), [], ""
        while True:
            page = await desk.ok("eve", "GET", f"/v1/search?{query}&limit=1{after}")
            pages += [item["statement"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert pages == whole


async def test_a_search_that_takes_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers in time with what it has, and goes on from there when it is asked to."""
    monkeypatch.setattr(search, "SEARCH_S", -1.0)
    seen: list[int] = []
    after, asked = "", 0
    while True:
        page = await desk.ok("eve", "GET", f"/v1/search?text=select&{after}")
        seen += [item["statement"] for item in page["items"]]
        asked += 1
        if page["next"] is None:
            break
        assert "narrow it by a time" in page["hint"]
        after = f"after={page['next']}"
    assert page["hint"] is None
    assert seen == [4, 3, 1]
    assert asked > len(seen)


async def test_many_searches_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time; whoever would have to wait for long is told so, and nothing is held by it."""
    monkeypatch.setattr(search, "SEARCH_S", 0.01)
    async with desk.services.searching, desk.services.searching:
        refused = await desk.call("eve", "GET", "/v1/search")
    assert (refused.status_code, refused.json()["detail"]) == (503, "too many searches at once; try again")
    monkeypatch.setattr(search, "SEARCH_S", 5.0)
    for _ in range(3):
        assert await numbers(desk, "") == [6, 5, 4, 3, 2, 1]


async def test_a_search_is_logged(desk: Desk) -> None:
    """Who looked for whom and for what; but not for which text, which may be a secret itself."""
    with structlog.testing.capture_logs() as logs:
        await desk.ok("eve", "GET", "/v1/search?person=ada&class=select&text=hunter2")
    (told,) = [entry for entry in logs if entry["event"] == "statements searched"]
    assert told == {**told, "by": "eve", "of_person": "ada", "of_class": "select", "of_text": "7 characters"}
    assert "hunter2" not in str(logs)


async def test_hostile_texts(desk: Desk, edge: Edge) -> None:
    """What is no UTF-8, what controls terminals, what has a NUL: found by what it is, and given as it is recorded."""
    chain = Chain("evil")
    texts: list[dict[str, Any]] = [
        {"sql": "SELECT '\\xff' FROM caf\\xe9", "sql_base64": "U0VMRUNUICf/JyBGUk9NIGNhZuk="},
        {"sql": "SELECT '\x1b[2J\u202eabc' FROM \x7forders"},
        {"sql": "SELECT 'nul' -- \0 behind it"},
        {"sql": "SELECT 'ordinary'", "parameters": [Parameter(type=25, value="behind\0it")]},
        {"sql": "x" * 5_000 + " \u03bf\u03b4\u03bf\u03c3\u03b1"},
        {"sql": "INSERT INTO t VALUES ('" + "y" * LONG + "')"},
    ]
    lines = [chain.seal(edge.start(person="mallory"))]
    for number, one in enumerate(texts, start=1):
        start = StatementStart(statement=number, kind="query", state="I", transaction=number, **one)
        lines += [chain.seal(start), chain.seal(StatementEnd(statement=number, duration=1, tags=["SELECT 1"], rows=1))]
    assert (await edge.ship(*lines)).is_success
    await indexed(desk)
    for query, found in (
        ("table=%22caf\\xe9%22", [1]),
        ("text=caf\\xe9", [1]),
        ("text=%1b%5b2J", [2]),
        ("text=behind%00it", [4]),
        ("text=behind+it", [3]),
        ("text=%CE%9F%CE%94%CE%9F%CE%A3", [5]),
        ("label=long", [6]),
        ("text=yyyyyy", []),
        ("class=select", [6, 5, 4, 3, 2, 1]),
    ):
        assert await numbers(desk, f"session=evil&{query}") == found, query
    (item,) = (await desk.ok("eve", "GET", "/v1/search?session=evil&text=xxxxxx"))["items"]
    assert (item["size"], len(item["sql"])) == (5_006, search.SHOWN)
    (item,) = (await desk.ok("eve", "GET", "/v1/search?session=evil&label=long"))["items"]
    assert (item["size"], item["sql"], item["rows"]) == (0, "", 1)
