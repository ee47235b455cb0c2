"""A session told in order."""

from typing import Any

import pytest

from control.evidence.timeline import HELD_BACK, HELD_BYTES, KINDS, Teller
from proxy.contract.record import (
    AuthRefused,
    Cancel,
    Chain,
    Copy,
    CopyData,
    GrantExtended,
    JournalTorn,
    Notice,
    Parameter,
    Ran,
    Record,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    TransactionState,
    decode,
)
from tests.unit.control.desk import end, statement
from tests.unit.control.evidence.test_chain import start

SECOND = 1_000_000_000


def tell(*records: Record) -> list[dict[str, Any]]:
    """The timeline of records that are a second apart."""
    chain, teller = Chain("s1"), Teller(0)
    items: list[dict[str, Any]] = []
    for number, record in enumerate(records):
        items += teller.take(decode(chain.seal(record, at=number * SECOND)))
    return [*items, *teller.finish()]


def test_a_statement_is_one_item() -> None:
    """Where it started, with what its end says."""
    items = tell(start(), *statement(1, "SELECT 'x'"), end())
    assert [item["kind"] for item in items] == ["start", "statement", "end"]
    one = items[1]
    assert one == one | {
        "seq": 1,
        "at": "1970-01-01T00:00:01.000000Z",
        "offset_s": 1.0,
        "text": "SELECT 'x'",
        "sql": "SELECT 'x'",
        "tags": ["SELECT 1"],
        "rows": 1,
        "duration_s": 0.0015,
        "finished": True,
        "state": "I",
        "state_before": "I",
        "mode": "query",
        "transaction": 1,
        "sqlstate": None,
        "parameters": None,
    }


def test_a_pipeline_keeps_its_order() -> None:
    """Starts first, ends later, and what came between stays between."""
    first, second = statement(1), statement(2)
    copy = Copy(statement=2, direction="out", bytes=7)
    items = tell(start(), first[0], second[0], copy, first[1], second[1])
    assert [(item["kind"], item["seq"]) for item in items] == [
        ("start", 0),
        ("statement", 1),
        ("statement", 2),
        ("copy", 3),
    ]


def test_an_unfinished_statement_is_told() -> None:
    """Nobody knows how it went, and the item says so."""
    items = tell(start(), statement(1)[0], end(running=1, reason="revoked", by="carol", outcome="rolled back"))
    one, last = items[1], items[2]
    assert not one["finished"]
    assert {one[name] for name in ("rows", "duration_s", "sqlstate", "state")} == {None}
    assert (last["running"], last["by"], last["stop_s"]) == (1, "carol", 0.25)
    assert last["text"] == "the session ended: revoked by carol; rolled back"
    assert "signature" not in last


def test_a_clock_behind_makes_no_negative_time() -> None:
    """The decision is by control's clock, the backend's end by the proxy's."""
    assert tell(start(), end(decided_at=2_000, gone_at=1_000))[-1]["stop_s"] == 0


def test_an_item_comes_as_soon_as_it_is_complete() -> None:
    """A long session is not held in memory."""
    chain, teller = Chain("s1"), Teller(0)
    first, last = statement(1)
    assert len(teller.take(decode(chain.seal(start())))) == 1
    assert not teller.take(decode(chain.seal(first)))
    assert len(teller.take(decode(chain.seal(last)))) == 1
    assert not teller._statements


def test_what_never_ends_does_not_hold_back_the_rest_for_ever() -> None:
    """A hostile proxy's statement that has no end."""
    chain, teller = Chain("s1"), Teller(0)
    teller.take(decode(chain.seal(statement(1)[0])))
    told: list[dict[str, Any]] = []
    for _ in range(HELD_BACK + 5):
        told += teller.take(decode(chain.seal(Cancel(forwarded=False))))
    assert told[0]["kind"] == "statement"
    assert len(told) == HELD_BACK + 6


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        (Copy(statement=1, direction="in", bytes=5, failed=True), "copy", "COPY in, 5 bytes, failed"),
        (Copy(statement=1, direction="both", bytes=9, bytes_in=2), "copy", "COPY both, 9 bytes (2 from the client)"),
        (StatementPrepare(sql="SELECT 1", name="s"), "prepare", "'s': SELECT 1"),
        (StatementPrepare(sql="SELECT 1", name="s", portal=""), "prepare", "portal '': SELECT 1"),
        (
            JournalTorn(segment=1, offset=9, bytes=5),
            "torn",
            "a crash had torn the proxy's journal: 5 bytes of an unfinished line were cut off",
        ),
        (Cancel(forwarded=True, statement=1), "cancel", "cancel"),
        (Cancel(forwarded=False), "cancel", "cancel, but nothing was running"),
        (Notice(severity="WARNING", sqlstate="01000", message="soon"), "notice", "WARNING 01000: soon"),
        (GrantExtended(grant="g", expires_at=0), "extended", "the grant now ends at 1970-01-01T00:00:00.000000Z"),
        (
            AuthRefused(refusal="expired", user="u", database="d"),
            "refused",
            "a connection as u to d was refused: expired",
        ),
    ],
)
def test_every_other_record_is_an_item(record: Record, kind: str, text: str) -> None:
    """With its own fields under their own names."""
    (item,) = tell(record)
    assert (item["kind"], item["text"]) == (kind, text)
    assert not {"v", "prev", "session"} & item.keys()


def test_what_ran_is_told() -> None:
    """Where an Execute ran something else than its start had said: the truth, and beside it what was announced."""
    ran = Ran(sql="DELETE FROM t WHERE a = $1", name="s", parameters=[Parameter(25, "x")])
    start = StatementStart(statement=1, kind="execute", sql="SELECT 1", state="I", transaction=1)
    (item,) = tell(start, StatementEnd(statement=1, tags=["DELETE 9"], duration=5, state="I", ran=ran))
    assert (item["sql"], item["text"], item["announced"]) == (ran.sql, ran.sql, "SELECT 1")
    assert (item["name"], item["parameters"], item["tags"]) == ("s", ran.parameters, ["DELETE 9"])
    assert "ran" not in item


def test_replication_is_told() -> None:
    """A session of it says so from the start; a physical one is in no database."""
    ordinary, logical, physical = start(), start(), start()
    logical.replication = "logical"
    physical.replication, physical.database = "physical", ""
    texts = [tell(one)[0]["text"] for one in (ordinary, logical, physical)]
    place = f"{ordinary.target}/{ordinary.database}"
    assert texts[0] == f"{ordinary.person} connected to {place} as {ordinary.profile}"
    assert texts[1] == f"{texts[0]} for logical replication"
    assert texts[2] == texts[1].replace(place, ordinary.target).replace("logical", "physical")


def test_slots_left_behind_are_told() -> None:
    """With the end, which is where an operator looks; nothing where there are none."""
    made = statement(1, 'CREATE_REPLICATION_SLOT "wal" PHYSICAL')
    items = tell(start(), *made, end())
    assert items[-1]["slots"] == ["wal"]
    assert items[-1]["text"].endswith("; replication slots left behind: wal")
    assert tell(start(), *statement(1), end())[-1]["slots"] == []


def test_every_record_has_a_kind() -> None:
    """One that is added to the contract later fails here first. Two are told with others."""
    subclasses = set(Record.__subclasses__())
    assert subclasses - set(KINDS) == {StatementEnd, CopyData}


def test_parameters_are_told_with_their_nulls() -> None:
    """As the record has them, and one that was withheld is not taken for a NULL."""
    values = [Parameter(type=25, value=None), Parameter(type=23, value=5), Parameter(type=23, withheld=True)]
    record = StatementStart(
        statement=1,
        kind="execute",
        sql="SELECT $1",
        parameters=values,
        state="T",
        transaction=3,
    )
    (item,) = tell(record)
    assert item["parameters"] == values
    assert item["mode"] == "execute"


@pytest.mark.parametrize(("by", "said"), [("carol", ", extended by carol"), (None, "")])
def test_an_extension_says_who_where_that_is_known(by: str | None, said: str) -> None:
    """Records of before it was said have nobody."""
    text = tell(start(), GrantExtended(grant="grt_1", expires_at=60 * SECOND, by=by))[1]["text"]
    assert text == f"the grant now ends at 1970-01-01T00:01:00.000000Z{said}"


def did(number: int, tag: str, *, transaction: int, state: TransactionState, rows: int = 0) -> list[Record]:
    """A statement in a transaction."""
    return [
        StatementStart(statement=number, kind="query", sql=f"{tag} TO a", state="T", transaction=transaction),
        StatementEnd(statement=number, tags=[tag], rows=rows, duration=1, state=state),
    ]


def block(closing: str = "COMMIT") -> list[Record]:
    """A transaction of three statements."""
    return [
        *did(1, "BEGIN", transaction=1, state="T"),
        *did(2, "UPDATE 500", transaction=1, state="T", rows=500),
        *did(3, closing, transaction=1, state="I"),
    ]


@pytest.mark.parametrize(("closing", "outcome"), [("COMMIT", "committed"), ("ROLLBACK", "rolled back")])
def test_a_transaction_is_told(closing: str, outcome: str) -> None:
    """Each of its statements says what became of it, and an item behind them says it of the whole."""
    items = tell(start(), *block(closing), *statement(4), end())
    assert [item["kind"] for item in items] == ["start", *["statement"] * 3, "transaction", "statement", "end"]
    assert [item["outcome"] for item in items[1:5]] == [outcome] * 4
    assert items[4] == {
        "seq": None,
        "at": "1970-01-01T00:00:06.000000Z",
        "offset_s": 6.0,
        "kind": "transaction",
        "text": f"transaction 1 {outcome}: 3 statements, 500 rows",
        "transaction": 1,
        "outcome": outcome,
        "statements": 3,
        "rows": 500,
        "errors": 0,
    }
    assert items[5]["outcome"] == "committed"  # by itself: no other item says so


def test_what_was_open_in_the_end_is_told_before_it() -> None:
    """The end of the transaction, then that of the session."""
    items = tell(start(), *block()[:4], end(reason="revoked", outcome="rolled back"))
    assert [(item["kind"], item.get("outcome")) for item in items[1:]] == [
        ("statement", "rolled back"),
        ("statement", "rolled back"),
        ("transaction", "rolled back"),
        ("end", "rolled back"),
    ]


def test_what_never_ran_has_no_outcome() -> None:
    """Nothing became of it; and what still runs may have any."""
    skipped = StatementStart(statement=1, kind="execute", sql="INSERT", state="I", transaction=1)
    items = tell(start(), skipped, StatementEnd(statement=1, duration=1, skipped=True, state="I"), statement(2)[0])
    assert [item["outcome"] for item in items[1:]] == [None, None]


@pytest.mark.parametrize(("number", "size"), [(HELD_BACK, 0), (20, HELD_BYTES // 10)])
def test_a_long_transaction_is_not_held_in_memory(number: int, size: int) -> None:
    """Its statements come out before anybody knows what becomes of them; the item at its end says it."""
    chain, teller = Chain("s1"), Teller(0)
    told: list[dict[str, Any]] = []
    records = [*did(1, "BEGIN", transaction=1, state="T")]
    for one in range(2, number + 2):
        records += did(one, "INSERT 0 1", transaction=1, state="T", rows=1)
    records += did(number + 2, "COMMIT", transaction=1, state="I")
    for record in records:
        told += teller.take(decode(chain.seal(record)), size)
        assert len(teller._held) <= HELD_BACK
        assert teller._bytes <= HELD_BYTES
    assert teller._bytes == 0
    assert told[0]["outcome"] is None
    assert told[0]["finished"]
    assert told[-2]["outcome"] == "committed"
    assert told[-1]["text"] == f"transaction 1 committed: {number + 2} statements, {number} rows"


def test_long_pauses_are_told() -> None:
    """From the end of what was before; not while something ran, however long."""
    chain, teller = Chain("s1"), Teller(0)
    minute = 60 * SECOND
    long = StatementStart(statement=1, kind="query", sql="VACUUM", state="I", transaction=1)
    timed = [
        (start(), 0),
        (long, minute),
        (Cancel(forwarded=True), 3 * minute),
        (StatementEnd(statement=1, tags=["VACUUM"], duration=4 * minute, state="I"), 5 * minute),
        (Cancel(forwarded=False), 5 * minute + SECOND),
        (Cancel(forwarded=False), 6 * minute),
    ]
    items = [item for record, at in timed for item in teller.take(decode(chain.seal(record, at=at)))]
    assert [item.get("gap_s") for item in items] == [None, 60.0, None, None, 59.0]


def test_recorded_copy_data_is_counted() -> None:
    """The pieces are no items: the COPY says how much of its data there is, and holds none of it back."""
    first, last = statement(1, "COPY t FROM stdin")
    pieces = [CopyData(statement=1, direction="in", base64=text) for text in ("AAE=", "AAEC", "")]
    items = tell(start(), first, *pieces, Copy(statement=1, direction="in", bytes=5), last)
    assert [(item["kind"], item.get("recorded")) for item in items[1:]] == [("statement", None), ("copy", 5)]


def test_a_live_timeline_holds_nothing_back() -> None:
    """A statement is told when it begins and when it has ended; of what is undone later, and of the end, items say."""
    chain, teller = Chain("s1"), Teller(0, live=True)
    records = [
        start(),
        *did(1, "BEGIN", transaction=1, state="T"),
        *did(2, "SAVEPOINT", transaction=1, state="T"),
        *did(3, "INSERT 0 1", transaction=1, state="T"),
        *did(4, "ROLLBACK", transaction=1, state="T"),
        *did(5, "COMMIT", transaction=1, state="I"),
        statement(6)[0],
        end(),
    ]
    told = [[(one["kind"], one.get("finished")) for one in teller.take(decode(chain.seal(one)))] for one in records]
    begins, ends, closes = ("statement", False), ("statement", True), ("transaction", None)
    assert told == [
        [("start", None)],
        *[[begins], [ends]] * 3,
        *[[begins], [ends, closes]] * 2,
        [begins],
        [("end", None)],
    ]
    assert not teller.finish()
