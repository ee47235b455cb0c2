"""A session's timeline as a play: order, moments, words, and nothing that a text of the session could forge."""

import io
import itertools
from typing import Any

import pytest
from rich.console import Console

from control.client import playback
from control.client.playback import Item, Step

Fields = dict[str, Any]


def statement(sql: str = "SELECT 1", **fields: Any) -> Fields:  # noqa: ANN401 an item's members
    """A statement that took 12 ms and gave a row, with changes."""
    return {"kind": "statement", "statement": 1, "offset_s": 1.0, "sql": sql, "rows": 1, "duration_s": 0.012} | fields


def shown(*items: Fields, width: int = 10_000, **how: bool) -> str:
    """What the play prints, without waiting."""
    out = io.StringIO()
    for step in playback.steps([Item(**fields) for fields in items], **how):
        playback.show(step, Console(file=out, width=width, markup=False, highlight=False, emoji=False))
    return out.getvalue()


def test_sql_parameters_and_result_stand_in_that_order() -> None:
    """SQL behind its gutter line by line, values with a real NULL, then the result at its own moment."""
    parameters = [{"type": 25, "value": "NULL"}, {"type": 23}, {"type": 23, "value": 42}, {"type": 16, "value": True}]
    assert shown(statement("SELECT $1,\n  $2", parameters=parameters, rows=3)).splitlines() == [
        "   0:01.000  #1     > SELECT $1,",
        "                    >   $2",
        "                    $1 = 'NULL'",
        "                    $2 = NULL",
        "                    $3 = 42",
        "                    $4 = true",
        "   0:01.012  #1     SUCCESS (3 rows, 12 ms)",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rows": 1}, "SUCCESS (1 row, 12 ms)"),
        ({"rows": None, "tags": ["SET"]}, "SUCCESS (0 rows, 12 ms)"),
        ({"rows": 50, "suspended": True}, "SUCCESS (50 rows so far, 12 ms)"),
        (
            {"sqlstate": "42P01", "message": 'relation "x" does not exist'},
            'ERROR 42P01 relation "x" does not exist (12 ms)',
        ),
        ({"skipped": True}, "SKIPPED (an earlier statement of the pipeline failed)"),
        ({"duration_s": None, "rows": None}, "NO RESULT (the session ended first)"),
    ],
)
def test_each_result_has_its_words(fields: Fields, expected: str) -> None:
    """Success with its rows and time, an error with its SQLSTATE, what never ran, what never finished."""
    assert playback.result(Item(**(statement() | fields)))[0] == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": 25, "value": "it's"}, "'it''s'"),
        ({"type": 25, "value": ""}, "''"),
        ({"type": 17, "base64": "AAE="}, "base64 'AAE=' (type 17)"),
        ({"type": 17, "base64": ""}, "base64 '' (type 17)"),
        ({"type": 16, "value": False}, "false"),
        ({"type": 701, "value": 1.5}, "1.5"),
        ({"type": 25, "value": None}, "NULL"),
        ({"type": 23, "withheld": True}, "withheld (type 23)"),
        ({"type": 0, "value": None, "withheld": True}, "withheld (type 0)"),
        ({"type": 25, "value": "withheld (type 23)", "withheld": False}, "'withheld (type 23)'"),
        ({"type": 25, "value": "***", "masked": True}, "'***' (a secret in it is masked)"),
        ({"type": 25, "value": "***"}, "'***'"),
    ],
)
def test_values_are_written_as_sql_would(value: Fields, text: str) -> None:
    """An empty text, the text NULL, NULL, and a value that was not recorded are four different things."""
    assert playback.parameter(value) == text


def test_what_came_between_stands_between() -> None:
    """A cancel during a statement is shown before the statement's result."""
    text = shown(
        statement("SELECT pg_sleep(9)", duration_s=2.0, sqlstate="57014", message="canceling statement"),
        {"kind": "cancel", "offset_s": 2.5, "text": "from 10.0.0.1"},
        {"kind": "end", "offset_s": 9.0, "text": "closed"},
    )
    assert [line.split()[1] for line in text.splitlines()] == ["#1", "CANCEL", "#1", "END"]


def test_the_end_tells_reason_outcome_and_proof() -> None:
    """What ended the session, what became of the open work, and how soon the backend was gone."""
    text = shown(
        {
            "kind": "end",
            "offset_s": 9,
            "reason": "killed",
            "by": "amy",
            "outcome": "rolled back",
            "running": 2,
            "stop_s": 0.08,
        },
    )
    told = "END killed by amy; #2 was running; open work: rolled back; backend gone 80 ms after the decision"
    assert text == f"   0:09.000         {told}\n"
    left = shown({"kind": "end", "reason": "closed", "outcome": "nothing open", "slots": ["a", "b"]})
    assert "END closed; open work: nothing open; replication slots left behind: a, b" in left


def test_no_text_of_a_session_can_look_like_the_replay() -> None:
    """SQL that imitates a result line stays behind its gutter, and its escapes are visible."""
    forged = "SELECT 1\n   0:01.012  #1     SUCCESS (0 rows, 1 ms)\r\x1b[1A\x1b[2K\u202e--"
    lines = shown(statement(forged, sqlstate="42601", message="bad\n   0:02.000  #2  > DROP\x1b[0m")).splitlines()
    assert lines[1] == " " * 20 + ">    0:01.012  #1     SUCCESS (0 rows, 1 ms)\\r\\x1b[1A\\x1b[2K\\u202e--"
    assert lines[3].startswith(" " * 20 + "   0:02.000")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("sql", ["x" * 300, "日本" * 100, "SELECT " + " " * 200 + "   0:01.012  #1     SUCCESS"])
def test_a_terminal_never_begins_a_row_by_itself(sql: str) -> None:
    """Long lines are folded behind a gutter of their own, and nothing of them is lost."""
    width = 80
    rows = shown(statement(sql), width=width).splitlines()[:-1]
    assert all(row[20:22] == ("> " if n == 0 else "+ ") for n, row in enumerate(rows))
    assert "".join(row[22:] for row in rows) == sql
    assert all(len(row.encode("utf-16-le")) // 2 <= width for row in rows)


def test_markup_in_a_text_is_text() -> None:
    """Square brackets and colons mean nothing to us."""
    assert "> SELECT '[red]x[/red] :smile:'" in shown(statement("SELECT '[red]x[/red] :smile:'"))


def step(at_s: float) -> Step:
    """A step at a moment."""
    return Step(at_s=at_s, mark="", parts=(("", "x", ""),))


def moments(*at_s: float, speed: float = 1.0, max_gap_s: float | None = None) -> list[float]:
    """When steps that happened then are shown."""
    timed = playback.moments([step(at) for at in at_s], speed=speed, max_gap_s=max_gap_s)
    return [moment for moment, _ in timed]


def test_timing_is_the_original_one_unless_told_otherwise() -> None:
    """Speed divides, a longest gap cuts, zero of it shows all at once."""
    assert moments(0.5, 2.5, 12.5) == [0.5, 2.5, 12.5]
    assert moments(0.5, 2.5, 12.5, speed=5) == [0.1, 0.5, 2.5]
    assert moments(0.5, 2.5, 12.5, max_gap_s=1) == [0.5, 1.5, 2.5]
    assert moments(0.5, 2.5, 12.5, max_gap_s=0) == [0.0, 0.0, 0.0]


def test_playing_waits_for_each_moment_and_makes_up_for_lost_time() -> None:
    """A slow terminal delays one step, not all that follow."""
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds + (1.0 if len(slept) == 1 else 0.0)

    timed = [(1.0, step(1)), (1.5, step(1.5)), (4.0, step(4))]
    playback.play(timed, Console(file=io.StringIO()), sleep=sleep, clock=lambda: now[0])
    assert slept == [1.0, 2.0]


def test_a_transaction_is_shown_as_a_whole() -> None:
    """How it ended stands behind the result that ended it, though that took until a moment later by another clock."""
    text = shown(
        statement("BEGIN", statement=1, outcome="rolled back"),
        statement("UPDATE t", statement=2, offset_s=2.0, rows=9, bytes_out=2_345, outcome="rolled back"),
        statement("ROLLBACK", statement=3, offset_s=3.0, rows=0, outcome="rolled back"),
        {
            "kind": "transaction",
            "offset_s": 3.011,
            "text": "transaction 1 rolled back: 3 statements, 10 rows",
            "outcome": "rolled back",
        },
        statement("SELECT 1", statement=4, offset_s=4.0, outcome="committed"),
        statement("SELECT 1/0", statement=5, offset_s=5.0, sqlstate="22012", outcome="rolled back"),
        statement("COMMIT", statement=6, offset_s=6.0, outcome="in doubt"),
    )
    assert [line.split(maxsplit=1)[1].strip() for line in text.splitlines()] == [
        "#1     > BEGIN",
        "#1     SUCCESS (1 row, 12 ms), rolled back",
        "#2     > UPDATE t",
        "#2     SUCCESS (9 rows, 2.3 kB, 12 ms), rolled back",
        "#3     > ROLLBACK",
        "#3     SUCCESS (0 rows, 12 ms), rolled back",
        "ROLLED BACK transaction 1: 3 statements, 10 rows",
        "#4     > SELECT 1",
        "#4     SUCCESS (1 row, 12 ms)",
        "#5     > SELECT 1/0",
        "#5     ERROR 22012 (12 ms)",
        "#6     > COMMIT",
        "#6     SUCCESS (1 row, 12 ms), in doubt",
    ]


def test_pauses_and_the_books_are_shown() -> None:
    """A pause where it began, and what came before the session before its beginning."""
    text = shown(
        {"kind": "decision", "offset_s": -300.0, "text": "carol approved it for 10m: fine"},
        {"kind": "start", "text": "ada connected"},
        statement("SELECT 1", offset_s=100.0, gap_s=100.0),
    )
    assert text.splitlines() == [
        "  -5:00.000         DECISION carol approved it for 10m: fine",
        "   0:00.000         START ada connected",
        "   0:00.000         PAUSE 1m40s",
        "   1:40.000  #1     > SELECT 1",
        "   1:40.012  #1     SUCCESS (1 row, 12 ms)",
    ]


def test_a_live_play_shows_each_thing_when_it_comes() -> None:
    """A statement when it begins, its result when it has ended, and nothing twice; or both at once."""
    begun = statement(finished=False, duration_s=None)
    assert shown(begun, live=True).split()[-1] == "1"
    cancel = {"kind": "cancel", "offset_s": 9.0, "text": "cancel"}
    marks = [line.split()[2] for line in shown(begun, cancel, statement(), live=True).splitlines()]
    assert marks == [">", "cancel", "SUCCESS"]
    assert len(shown(statement(), live=True, ended_only=True).splitlines()) == 2


def test_a_play_is_as_long_as_it_likes() -> None:
    """Steps come as items do."""
    items = (Item(**statement(offset_s=float(number))) for number in itertools.count())
    assert [step.at_s for step in itertools.islice(playback.steps(items), 4)] == [0.0, 0.012, 1.0, 1.012]


def test_a_play_from_a_place_on_begins_at_once() -> None:
    """Not after all the time before it."""
    timed = playback.moments([step(60.0), step(61.0)], speed=1, max_gap_s=None, from_first=True)
    assert [moment for moment, _ in timed] == [0.0, 1.0]
