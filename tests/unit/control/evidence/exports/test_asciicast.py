"""Recordings of a terminal."""

import json
import re
from typing import Any

import pytest

from control.evidence.exports import asciicast
from control.evidence.exports.asciicast import Asciicast
from control.evidence.exports.context import Context
from proxy.contract.record import Record
from tests.unit.control.evidence.exports.story import SECOND, asked, done, end, start, story, told, written

OURS = re.compile(r"\x1b\[[0-9;]*m")


def recording(*records: Record, step_ns: int = SECOND) -> tuple[dict[str, Any], list[list[Any]]]:
    """Header and events of a session."""
    session, items = told(*records, step_ns=step_ns)
    header, *events = written(Asciicast(Context(session=session, version="1")), items).splitlines()
    return json.loads(header), [json.loads(event) for event in events]


def test_it_is_an_asciicast() -> None:
    """Version 3: the terminal's size, when it began, and events of an interval, a code and a text."""
    header, events = recording(*story())
    assert header == {
        "version": 3,
        "term": {"cols": 120, "rows": 36, "type": "xterm-256color"},
        "timestamp": 1_795_348_800,
        "idle_time_limit": 2.0,
        "title": "Curfew session ses_1: dba1 on orders/shop",
    }
    for interval, code, data in events:
        assert isinstance(interval, float)
        assert interval >= 0
        assert code in ("o", "m")
        assert isinstance(data, str)


def test_nothing_of_a_session_acts_on_the_terminal() -> None:
    """The only escapes are our colours, the only control characters the ends of our rows; no row folds by itself."""
    _, events = recording(*story())
    for _, _, data in events:
        bare = OURS.sub("", data)
        assert bare.replace("\r\n", "").isprintable()
        assert all(len(row) <= asciicast.COLUMNS for row in bare.split("\r\n"))


def test_results_come_at_their_own_moment() -> None:
    """Between what came meanwhile, as in the replay; an interval is since the event before, whatever its code."""
    slow = done(1, "SELECT 1", rows=1, duration=2_500_000_000)
    _, events = recording(start(), asked(1, "SELECT 1"), asked(2, "SELECT 2"), slow, done(2, "SELECT 2"), end())
    shown = [
        (interval, OURS.sub("", data).split("\r\n")[0].split(maxsplit=1)[1].strip()) for interval, _, data in events
    ]
    assert shown[2:] == [
        (1.0, "#1     > SELECT 1"),
        (1.0, "#2     > SELECT 2"),
        (0.012, "#2     SUCCESS (0 rows, 12 ms)"),
        (1.488, "#1     SUCCESS (1 row, 2.5s)"),
        (
            1.5,
            "END revoked by carol; #8 was running; open work: rolled back; backend gone 29 ms after the decision"[:98],
        ),
    ]


def test_each_error_is_a_marker() -> None:
    """So that players jump to it."""
    _, events = recording(*story())
    assert [(interval, data) for interval, code, data in events if code == "m"] == [(0.0, "#3 ERROR 42P01")]


def test_results_that_never_come_wait_in_bounded_memory() -> None:
    """A hostile proxy's durations; all of them are shown all the same."""
    many = asciicast.WAITING + 5
    forever: list[Record] = [start()]
    for number in range(1, many + 1):
        forever += [asked(number, "SELECT 1"), done(number, "SELECT 1", duration=10**15)]
    session, items = told(*forever)
    exporter = Asciicast(Context(session=session, version="1"))
    exporter.begin()
    shown = b"".join(exporter.take(item) for item in items)
    assert len(exporter._waiting) == asciicast.WAITING
    assert (shown + exporter.finish()).count(b"SUCCESS") == many


def test_long_results_wait_in_bounded_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's message may have any length."""
    monkeypatch.setattr(asciicast, "WAITING_CHARACTERS", 1_000)
    late = done(1, sqlstate="P0001", message="x" * 2_000, duration=10**15)
    session, items = told(start(), asked(1, "SELECT 1"), late)
    exporter = Asciicast(Context(session=session, version="1"))
    exporter.begin()
    assert b"ERROR P0001" in b"".join(exporter.take(item) for item in items)
    assert exporter._characters == 0


def test_a_long_statement_is_whole_and_folded() -> None:
    """Behind a gutter, so that no row of it looks like a row of the replay."""
    sql = "SELECT '" + "x" * 1_000 + "'"
    _, events = recording(start(), asked(1, sql), done(1, "SELECT 1"), end())
    rows = OURS.sub("", events[2][2]).split("\r\n")[:-1]
    assert "".join(row[22:] for row in rows) == sql
    assert {row[20:22] for row in rows[1:]} == {"+ "}


def test_an_open_session_says_so() -> None:
    """At the end."""
    _, events = recording(start())
    assert events[-1][2] == "the session is still open: this is what there is so far\r\n"


def test_a_pause_and_the_end_of_a_transaction_are_shown_as_in_the_replay() -> None:
    """A pause where it began; what became of a transaction behind the last of its results."""
    begin, both = done(1, "BEGIN", state="T"), done(2, "COMMIT", duration=3 * SECOND)
    _, events = recording(
        start(), asked(1, "BEGIN"), begin, asked(2, "COMMIT", transaction=1), both, step_ns=40 * SECOND
    )
    shown = [
        OURS.sub("", data).split("\r\n")[0].split(maxsplit=1)[1].strip() for _, code, data in events if code == "o"
    ]
    assert shown[2:-1] == [
        "PAUSE 40s",
        "#1     > BEGIN",
        "#1     SUCCESS (0 rows, 12 ms)",
        "PAUSE 1m20s",
        "#2     > COMMIT",
        "#2     SUCCESS (0 rows, 3s)",
        "COMMITTED transaction 1: 2 statements, 0 rows",
    ]
