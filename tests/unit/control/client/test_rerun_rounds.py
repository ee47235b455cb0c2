"""What the records of a session say that was asked, and what they do not have."""

import base64
from collections.abc import Iterable

import pytest

from control.client.rerun_rounds import Definition, Round, Statement, has_placeholders, rounds, survey
from proxy.contract.record import (
    Cancel,
    Copy,
    CopyData,
    Outcome,
    Parameter,
    Ran,
    Record,
    SessionEnd,
    StatementEnd,
    StatementPrepare,
    StatementStart,
    TransactionState,
)

Records = list[Record]


def start(number: int, sql: str = "SELECT 1", **more: object) -> StatementStart:
    """An Execute, where nothing else is said."""
    given: dict[str, object] = {"kind": "execute", "state": "I", "transaction": number, **more}
    return StatementStart(statement=number, sql=sql, **given)  # type: ignore[arg-type] # its own fields


def end(number: int, state: TransactionState | None = "I", **more: object) -> StatementEnd:
    """Its end, 5 ns later."""
    return StatementEnd(statement=number, state=state, duration=5, **more)  # type: ignore[arg-type] # as start


def over(outcome: Outcome = "nothing open") -> SessionEnd:
    """The session's."""
    return SessionEnd(reason="closed", decided_at=1, outcome=outcome, statements=1, bytes_in=0, bytes_out=0)


def read(*records: Record) -> list[Round]:
    """The rounds of a session of these records, a second apart, each at the place of its number."""
    for seq, record in enumerate(records):
        record.seq, record.at = seq, seq * 1_000_000_000
    found = survey(records)  # type: ignore[arg-type] # all are some record
    return list(rounds(enumerate(records), found))  # type: ignore[arg-type] # as above


def told(found: Iterable[Round]) -> list[list[str]]:
    """Each round as its parts' names."""
    return [
        [f"{one.name}:" if isinstance(one, Definition) else str(one.number) for one in asked.steps] for asked in found
    ]


def only(*records: Record) -> Statement:
    """The one statement of these."""
    [asked] = read(*records)
    [one] = asked.statements
    return one


def test_statements_without_a_sync_between_them_are_a_round() -> None:
    """Also where a transaction is open, in which nothing else says so."""
    piped = start(3, state="T", transaction=1, pipelined=True)
    records = [start(1), end(1, "T"), start(2, state="T", transaction=1), piped, end(2), end(3), start(4), end(4)]
    assert told(read(*records, over())) == [["1"], ["2", "3"], ["4"]]


def test_a_definition_goes_with_the_statement_that_it_is_for() -> None:
    """Unless that says that the name meant something else, or nothing; its types are those of the first values."""
    prepare = StatementPrepare(sql="SELECT $1", name="p")
    named = start(1, "SELECT $1", name="p", parameters=[Parameter(type=23, value=1), Parameter(type=90_000, value="x")])
    joined = read(prepare, named, end(1), over())
    assert told(joined) == [["p:", "1"]]
    assert joined[0].steps[0] == Definition(name="p", text=b"SELECT $1", types=(23, 0))
    assert told(read(prepare, start(1, name="q"), end(1), over())) == [["p:"], ["1"]]
    assert told(read(prepare, named, end(1, sqlstate="26000"), over())) == [["p:"], ["1"]]
    assert told(read(prepare, named, end(1, ran=Ran(sql="SELECT 2", name="p")), over())) == [["p:"], ["1"]]
    assert told(read(start(1), end(1), prepare, over())) == [["1"], ["p:"]]


def test_a_name_that_was_taken() -> None:
    """Nothing but what followed says that it was."""
    prepare = StatementPrepare(sql="SELECT 1", name="p")
    aborted = read(start(1), end(1, "T"), prepare, start(2, state="E"), end(2, "E", sqlstate="25P02"), over())
    assert [one.refused for asked in aborted for one in asked.steps if isinstance(one, Definition)] == [True]
    free = read(start(1), end(1, "T"), prepare, start(2, name="p", state="T"), end(2, "T"), over())
    assert [one.refused for asked in free for one in asked.steps if isinstance(one, Definition)] == [False]


def test_what_ran_is_what_is_run() -> None:
    """And not what was announced; bytes that are no UTF-8 are exact."""
    ran = Ran(sql="\\xfc", sql_base64=base64.b64encode(b"\xfc").decode(), name="p", parameters=[Parameter(type=1)])
    one = only(start(1, "other"), end(1, ran=ran), over())
    assert (one.sql, one.text, one.name, one.parameters) == ("\\xfc", b"\xfc", "p", (Parameter(type=1),))


def test_the_parts_of_a_portal_belong_together() -> None:
    """The Execute that goes on names the portal of the one that made it, in the same transaction."""
    parts = [start(1, "a"), end(1, "T", suspended=True), start(2, "a", continued=True, transaction=1), end(2, "T")]
    again = [start(3, "a", transaction=1), end(3, "T"), start(4, "b", transaction=1), end(4)]
    assert [one.portal for asked in read(*parts, *again, over()) for one in asked.statements] == [
        "curfew_1",
        "curfew_1",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("outcome", "cut", "lacks"),
    [
        ("rolled back", True, None),
        ("nothing open", True, None),
        ("committed before", False, None),
        ("unknown", False, "whether it was committed is not known"),
        ("partly committed", False, "whether it was committed is not known"),
    ],
)
def test_what_the_sessions_end_cut_short(outcome: Outcome, cut: bool, lacks: str | None) -> None:  # noqa: FBT001 of the table
    """What was rolled back is not run; what nobody knows of is not complete."""
    first, last = read(start(1), end(1), start(2), start(3, pipelined=True), end(2, None), over(outcome))
    assert (first.cut, last.cut) == (False, cut)
    assert [one.lacks for one in last.statements] == [lacks, lacks]


@pytest.mark.parametrize(
    ("records", "lacks"),
    [
        ([start(1), end(1)], None),
        ([start(1, kind="function", function=5), end(1)], "a function call is not run again"),
        ([start(1, masked=True), end(1)], "a secret in its text was masked"),
        ([start(1, parameters=[Parameter(type=23, withheld=True)]), end(1)], "its parameters were withheld"),
        ([start(1, parameters=[Parameter(25, "***", masked=True)]), end(1)], "a secret in its parameters was masked"),
        ([start(1, "SELECT $1"), end(1)], "its parameters were not recorded"),
        ([start(1, "SELECT $1"), end(1, skipped=True)], None),
        ([start(1, "SELECT $1", kind="query"), end(1)], None),
        ([start(1), Copy(statement=1, direction="in", bytes=3), end(1)], "the data of its COPY was not recorded"),
        ([start(1), Copy(statement=1, direction="in", bytes=0), end(1)], None),
        ([start(1), Copy(statement=1, direction="out", bytes=3), end(1)], None),
        (
            [
                start(1),
                CopyData(statement=1, direction="in", base64="YQ=="),
                CopyData(statement=1, direction="in", base64="YmM="),
                Copy(statement=1, direction="in", bytes=3),
                end(1),
            ],
            None,
        ),
        ([start(1), Copy(statement=1, direction="both", bytes=0), end(1)], "replication cannot be run again"),
    ],
)
def test_what_is_not_on_record_is_said(records: Records, lacks: str | None) -> None:
    """Of each statement, why it cannot be run as it was."""
    assert only(*records, over()).lacks == lacks


def test_where_a_copys_data_are() -> None:
    """Each COPY of a query has its own."""
    pieces = [CopyData(statement=1, direction="in", base64="YQ==") for _ in range(3)]
    ends = [Copy(statement=1, direction="in", bytes=size) for size in (1, 2)]
    one = only(start(1, kind="query"), pieces[0], ends[0], *pieces[1:], ends[1], end(1), over())
    assert [(part.first, part.end) for part in one.copies] == [(1, 2), (3, 5)]


def test_a_cancel_that_hit() -> None:
    """Is sent as late as it was; one that came too late is not."""
    cancel = Cancel(forwarded=True, statement=1)
    assert read(start(1), cancel, end(1, sqlstate="57014"), over())[0].cancel_after_s == 1.0
    assert read(start(1), cancel, end(1), over())[0].cancel_after_s is None
    assert read(start(1), end(1, sqlstate="57014"), over())[0].cancel_after_s == 5e-9
    gave_up = Copy(statement=1, direction="in", bytes=0, failed=True)
    assert read(start(1), gave_up, end(1, sqlstate="57014"), over())[0].cancel_after_s is None


@pytest.mark.parametrize("sql", ["SELECT $1", "SELECT '$' || $2", "SELECT a$1, $1", "/* x */ SELECT $10"])
def test_placeholders(sql: str) -> None:
    """Are seen."""
    assert has_placeholders(sql)


@pytest.mark.parametrize("sql", ["SELECT '$1'", "SELECT $$ $1 $$", "SELECT a$1", "-- $1\nSELECT 1", '"$1"', "/* $1 */"])
def test_what_is_no_placeholder(sql: str) -> None:
    """Texts, names and comments."""
    assert not has_placeholders(sql)
