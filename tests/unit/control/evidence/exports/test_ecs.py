"""ECS documents."""

import json
from typing import Any

import pytest

from control.evidence.exports.context import Context
from control.evidence.exports.ecs import Ecs
from proxy.contract.record import AuthRefused, Record
from tests.unit.control.evidence.exports.schemas import VERSIONS, ecs_faults
from tests.unit.control.evidence.exports.story import EVIL, asked, done, end, start, story, told, written


def documents(*records: Record) -> list[dict[str, Any]]:
    """The documents of a session."""
    session, items = told(*records)
    lines = written(Ecs(Context(session=session, version="0.1.0")), items).splitlines()
    return [json.loads(line) for line in lines]


def test_every_document_keeps_to_the_schema() -> None:
    """Names, types, arrays, and the values that categorization allows together."""
    for document in documents(*story()):
        assert list(ecs_faults(document)) == []
        assert document["ecs"]["version"] == VERSIONS["ecs"]


def test_a_statement_says_all_of_it() -> None:
    """Its SQL byte for byte, its values with NULL as null, who, from where, on what, how it went."""
    one = next(document for document in documents(*story()) if document["curfew"].get("statement") == 1)
    assert one["db"] == {
        "system": {"name": "postgresql"},
        "namespace": "shop",
        "query": {"text": EVIL},
        "operation": {"name": "SELECT"},
    }
    event = {"action": "select", "outcome": "success", "duration": 12_000_000, "type": ["access"], "id": "ses_1:2"}
    assert one["event"] == one["event"] | event
    assert one["user"] == {"name": "dba1", "effective": {"name": "owner"}}
    assert one["source"] == {"address": "10.0.0.7", "ip": "10.0.0.7"}
    assert one["server"] == {"address": "fd00::5", "ip": "fd00::5", "port": 5432}
    assert one["related"] == {"user": ["dba1", "owner"], "ip": ["10.0.0.7", "10.0.0.1", "fd00::5"]}
    assert one["tls"]["version"] == "1.3"
    assert one["curfew"]["parameters"][:2] == [{"type": 25, "value": "NULL"}, {"type": 23, "value": None}]
    assert one["curfew"]["session"]["approved_by"] == "carol"


@pytest.mark.parametrize(
    ("tags", "changed", "action", "kinds", "outcome"),
    [
        (["CREATE TABLE"], {}, "create-table", ["change"], "success"),
        (["SELECT 1", "DELETE 3"], {}, "select", ["access", "change"], "success"),
        (["SET"], {}, "set", ["info"], "success"),
        ([], {"sqlstate": "42601", "message": "no"}, "drop", ["change", "error"], "failure"),
        ([], {"skipped": True}, "drop", ["change"], "unknown"),
    ],
)
def test_what_a_statement_did_is_categorized(
    tags: list[str], changed: dict[str, Any], action: str, kinds: list[str], outcome: str
) -> None:
    """By PostgreSQL's tags, and by the first word where none came."""
    one = documents(start(), asked(1, "drop table t"), done(1, *tags, **changed), end())[1]
    assert (one["event"]["action"], one["event"]["type"], one["event"]["outcome"]) == (action, kinds, outcome)
    assert ("error" in one) == ("sqlstate" in changed)


def test_sessions_begin_and_end() -> None:
    """As sessions of a database, with why they did."""
    first, *_, last = documents(*story())
    assert (first["event"]["action"], first["event"]["type"]) == ("session-start", ["start"])
    assert (last["event"]["action"], last["event"]["type"], last["event"]["reason"]) == (
        "session-end",
        ["end"],
        "revoked",
    )
    assert last["curfew"]["by"] == "carol"


def test_a_refused_connection_is_denied() -> None:
    """From a unix socket it has no address of the type that the schema wants."""
    session, items = told(AuthRefused(refusal="expired", user="x", database="orders"))
    (document,) = [json.loads(line) for line in written(Ecs(Context(session=session, version="1")), items).splitlines()]
    assert list(ecs_faults(document)) == []
    assert (document["event"]["type"], document["event"]["outcome"], document["event"]["reason"]) == (
        ["denied"],
        "failure",
        "expired",
    )
    assert document["source"] == {"address": "unix socket"}


def test_what_is_no_record_has_no_number() -> None:
    """As what control's books have of a session; it has a name all the same, and a length of its own kind."""
    session, _ = told(start())
    item = {"seq": None, "at": "2026-11-22T11:00:00.000000Z", "offset_s": -3600.0, "kind": "decision", "text": "yes"}
    (line,) = written(Ecs(Context(session=session, version="1")), [item | {"duration_s": 600}]).splitlines()
    made = json.loads(line)
    assert list(ecs_faults(made)) == []
    assert "sequence" not in made["event"]
    assert made["event"]["id"] == "ses_1:decision:2026-11-22T11:00:00.000000Z"
    assert made["curfew"]["duration_s"] == 600
    assert "duration" not in made["event"]
