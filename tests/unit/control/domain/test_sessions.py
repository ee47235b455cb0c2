"""What a session's summary says while its records come in."""

from functools import reduce
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.sessions import LARGEST, Session, State, advance, begin
from proxy.contract.record import AuthRefused, Finish, GrantExtended, Record, StatementEnd, StatementStart
from tests.unit.control.desk import end, statement
from tests.unit.control.evidence.test_chain import start


def told(*records: Record) -> Session:
    """The summary after these, each at its own number's nanosecond."""
    first = start()
    session = advance(begin(first, "edge"), [first], "0")
    for at, record in enumerate(records, start=1):
        record.at = at
    return reduce(lambda before, record: advance(before, [record], "x"), records, session)  # type: ignore[list-item] # all kinds


def begun(number: int, sql: str = "update t set a = 1") -> StatementStart:
    """A statement that runs."""
    return StatementStart(statement=number, kind="query", sql=sql, state="I", transaction=number)


def over(number: int) -> StatementEnd:
    """Its end."""
    return StatementEnd(statement=number, duration=1, state="I")


@pytest.mark.parametrize(
    ("records", "running"),
    [
        ([], (None, None, None)),
        ([begun(1)], (1, 1, "UPDATE")),
        ([begun(1, "hunter2")], (1, 1, None)),
        ([begun(1), over(1)], (None, None, None)),
        ([begun(1), begun(2), over(1)], (2, 2, "UPDATE")),
        ([begun(1), begun(2), over(1), over(2)], (None, None, None)),
        ([begun(1), over(1), begun(2, "SELECT 1")], (2, 3, "SELECT")),
        ([begun(1), end()], (None, None, None)),
    ],
)
def test_what_runs(records: list[Record], running: tuple[int | None, int | None, str | None]) -> None:
    """The newest that has begun and not ended; nothing once the session has."""
    one = told(*records)
    assert (one.running, one.running_since, one.running_command) == running


@given(st.lists(st.sampled_from((*range(1, 4), *range(-3, 0), 0)), max_size=12), st.booleans())
def test_all_at_once_and_one_by_one(numbers: list[int], ended: bool) -> None:  # noqa: FBT001 hypothesis gives it so
    """A batch's records change the summary as each by itself would; 0 stands for an extension, -1 for the end of 1."""
    records: list[Record] = [
        GrantExtended(grant="grt_1", expires_at=at) if not number else begun(number) if number > 0 else over(-number)
        for at, number in enumerate(numbers)
    ]
    records += [end()] if ended else []
    one_by_one = told(*records)
    assert advance(told(), records, "x" if records else "0") == one_by_one  # type: ignore[arg-type] # all kinds


def test_when_its_access_ends() -> None:
    """As it was admitted, and as an extension has moved it."""
    before = start()
    assert told().expires_at == before.expires_at
    assert told(GrantExtended(grant="grt_1", expires_at=77)).expires_at == 77
    refused = AuthRefused(refusal="expired", user="ada", database="orders")
    assert advance(begin(refused, "edge"), [refused], "0").expires_at is None


@pytest.mark.parametrize(
    ("decided_at", "gone_at", "stop_ns"),
    [(1_000, 1_250, 250), (1_000, 1_000, 0), (1_000, 900, 0), (1_000, None, None), (0, LARGEST, LARGEST)],
)
def test_how_long_the_end_took(decided_at: int, gone_at: int | None, stop_ns: int | None) -> None:
    """From two clocks, of which one may be behind; nothing is made up where nobody saw it."""
    one = told(end(decided_at=decided_at, gone_at=gone_at, reason="revoked", by="carol"))
    assert (one.state, one.end_reason, one.ended_by) == (State.ENDED, "revoked", "carol")
    assert (one.decided_at, one.gone_at, one.stop_ns) == (decided_at, gone_at, stop_ns)


def test_statements_are_counted_from_both_sides() -> None:
    """As they begin, and in the end as the proxy says."""
    assert told(*statement(1), begun(2)).statements == 2
    assert told(*statement(1), end(9)).statements == 9


@pytest.mark.parametrize(("ended", "took"), [("done", None), ("timeout", 50), ("cut", 250)])
def test_what_was_let_finish_is_no_delay(ended: Literal["done", "timeout", "cut"], took: int | None) -> None:
    """The stop begins when the statement's time is up, or when something else cuts it; an end by itself needs none."""
    finish = Finish(decided_at=1_000, until=1_200, ended=ended)
    assert told(end(decided_at=1_000, gone_at=1_250, reason="expired", finish=finish)).stop_ns == took
