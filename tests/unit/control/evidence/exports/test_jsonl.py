"""JSON Lines."""

import json

import msgspec

from control.evidence.exports.context import Context
from control.evidence.exports.jsonl import JsonLines
from tests.unit.control.evidence.exports.story import story, told, written


def test_it_is_the_timeline_whole() -> None:
    """The summary, then each item as the API has it, each line with its session: of many, all can be told apart."""
    session, items = told(*story())
    exporter = JsonLines(Context(session=session, version="1"), {"id": session.id, "faults": 0})
    first, *rest = [json.loads(line) for line in written(exporter, items).splitlines()]
    assert first == {"session": "ses_1", "kind": "session", "id": "ses_1", "faults": 0}
    assert rest == [{"session": "ses_1"} | msgspec.to_builtins(item) for item in items]
    assert [line["recorded"] for line in rest if line["kind"] == "copy"] == [4]
