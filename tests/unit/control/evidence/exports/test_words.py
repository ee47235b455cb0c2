"""What is said of an item where people read it."""

import msgspec

from control.client import playback
from control.evidence.exports import words
from control.evidence.timeline import Item
from proxy.contract.record import Copy, CopyData, StatementEnd
from tests.unit.control.evidence.exports.story import VALUES, asked, done, end, start, story, told


def replayed(item: Item) -> playback.Item:
    """As the command reads it."""
    return msgspec.convert(msgspec.to_builtins(item), playback.Item)


def test_documents_say_what_the_replay_says() -> None:
    """Word for word: results, values, and all that is no statement."""
    for item in told(*story())[1]:
        if item["kind"] == "statement":
            assert words.result(item) == playback.result(replayed(item))[0]
        elif item["kind"] != words.DATA:
            assert words.told(item) == playback._told(replayed(item))
    assert [words.parameter(value) for value in VALUES] == [
        playback.parameter(msgspec.to_builtins(value)) for value in VALUES
    ]


def test_every_way_a_statement_ends_has_its_words() -> None:
    """An error, one that never ran, one with more rows to come, one without an end."""
    ends: list[StatementEnd] = [done(1, sqlstate="42601"), done(2, skipped=True), done(3, rows=1, suspended=True)]
    begun = [asked(number, "SELECT 1") for number in (1, 2, 3, 4)]
    items = told(start(), *begun, *ends, end())[1][1:5]
    assert [words.result(item) for item in items] == [
        "ERROR 42601 (12 ms)",
        "SKIPPED (an earlier statement of the pipeline failed)",
        "SUCCESS (1 row so far, 12 ms)",
        "NO RESULT (the session ended first)",
    ]


def test_the_data_of_a_copy_is_counted() -> None:
    """A run of its pieces is one item; the other direction, or another statement, begins a new one."""
    pieces = [
        CopyData(statement=1, direction="in", base64="AAEC"),
        CopyData(statement=1, direction="in", base64="AA=="),
        CopyData(statement=1, direction="out", base64="AAA="),
    ]
    _, items = told(start(), asked(1, "COPY"), *pieces, Copy(statement=1, direction="both", bytes=6), done(1))
    data = words.Data()
    shown = [one for item in [*items, items[2]] for one in data.take(item)] + list(data.finish())
    assert [one["kind"] for one in shown] == ["start", "statement", "copy_data", "copy_data", "copy", "copy_data"]
    assert [one["text"] for one in shown if one["kind"] == "copy_data"] == [
        "COPY in, 2 pieces of its data on record (4 bytes)",
        "COPY out, a piece of its data on record (2 bytes)",
        "COPY in, a piece of its data on record (3 bytes)",
    ]
    assert "base64" not in shown[2]
    assert items[2]["base64"] == "AAEC"
