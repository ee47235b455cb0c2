"""What is said of an item where people read it."""

import msgspec

from control.client import playback
from control.evidence.exports import words
from control.evidence.timeline import Item
from proxy.contract.record import StatementEnd
from tests.unit.control.evidence.exports.story import VALUES, asked, done, end, start, story, told


def replayed(item: Item) -> playback.Item:
    """As the command reads it."""
    return msgspec.convert(msgspec.to_builtins(item), playback.Item)


def test_documents_say_what_the_replay_says() -> None:
    """Word for word: results, values, and all that is no statement."""
    for item in told(*story())[1]:
        if item["kind"] == "statement":
            assert words.result(item) == playback.result(replayed(item))[0]
        else:
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
        "NO RESULT (the session ended first), rolled back",
    ]
