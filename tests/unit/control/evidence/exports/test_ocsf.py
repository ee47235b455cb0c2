"""OCSF events."""

import json
from typing import Any

import pytest

from control.evidence.exports import ocsf
from control.evidence.exports.context import Context
from control.evidence.exports.ocsf import Ocsf
from proxy.contract.record import AuthRefused, Record, StatementPrepare
from tests.unit.control.evidence.exports.schemas import VERSIONS, ocsf_faults
from tests.unit.control.evidence.exports.story import EVIL, MS, asked, done, end, start, story, told, written


def events(*records: Record) -> list[dict[str, Any]]:
    """The events of a session."""
    session, items = told(*records)
    lines = written(Ocsf(Context(session=session, version="0.1.0")), items).splitlines()
    return [json.loads(line) for line in lines]


def test_every_event_keeps_to_the_schema() -> None:
    """Names, types, what is required; and none has two names for one thing."""
    for event in events(*story()):
        assert list(ocsf_faults(event)) == []
        assert event["metadata"]["version"] == VERSIONS["ocsf"]
        assert event["type_uid"] == 600_500 + event["activity_id"]
        assert (event["class_uid"], event["category_uid"]) == (6005, 6)


def test_what_is_prepared_without_a_name() -> None:
    """A query has a name or an identifier: the schema asks for one of them."""
    prepared = next(
        event for event in events(start(), StatementPrepare(sql="SELECT 1", portal="")) if "query_info" in event
    )
    assert list(ocsf_faults(prepared)) == []
    assert prepared["query_info"]["uid"] == prepared["metadata"]["uid"]


def test_a_statement_says_all_of_it() -> None:
    """Its SQL byte for byte, its values with NULL as null, who, from where, on what, how it went."""
    one = next(event for event in events(*story()) if event["unmapped"].get("statement") == 1)
    assert one["query_info"] == {
        "query_string": EVIL,
        "query_time": one["time"],
        "uid": "1",
        "bytes": 20,
        "name": "s\u202e",
    }
    assert one["unmapped"]["parameters"] == [
        {"type": 25, "value": "NULL"},
        {"type": 23, "value": None},
        {"type": 17, "base64": "AAE="},
        {"type": 23, "withheld": True},
        {"type": 23, "value": "42"},
        {"type": 16, "value": "true"},
        {"type": 25, "value": "it's <i>\x1b[1m"},
        {"type": 25, "value": "host=h password=***", "masked": True},
    ]
    assert one["actor"]["user"]["name"] == "dba1"
    assert one["actor"]["session"] == one["actor"]["session"] | {"uid": "ses_1", "is_remote": True}
    assert one["src_endpoint"] == {"name": "10.0.0.7", "ip": "10.0.0.7", "intermediate_ips": ["10.0.0.1"]}
    assert one["dst_endpoint"] == {"name": "orders", "svc_name": "postgresql", "ip": "fd00::5", "port": 5432}
    assert (one["database"]["name"], one["duration"], one["end_time"]) == ("shop", 12, one["start_time"] + 12)
    assert one["unmapped"]["session"] == one["unmapped"]["session"] | {
        "grant": "grt_0123456789abcdef",
        "approved_by": "carol",
    }
    assert (one["metadata"]["uid"], one["unmapped"]["rows"], one["unmapped"]["tags"]) == ("ses_1:2", 3, ["SELECT 3"])


def test_an_error_is_a_failure_with_its_sqlstate() -> None:
    """And what people read of it cannot act on a terminal."""
    one = next(event for event in events(*story()) if event.get("status_code") == "42P01")
    assert (one["status_id"], one["status"], one["severity_id"]) == (2, "Failure", 2)
    assert one["status_detail"] == 'relation "<t>" \x1b[31mdoes not exist'
    assert one["message"] == 'Update: ERROR 42P01 relation "<t>" \\x1b[31mdoes not exist (12 ms)'


@pytest.mark.parametrize(
    ("tags", "sql", "activity", "name"),
    [
        (["SELECT 1"], "with", ocsf.QUERY, "Query"),
        (["INSERT 0 1"], "", ocsf.WRITE, "Write"),
        (["CREATE INDEX"], "", ocsf.CREATE, "Create"),
        (["SELECT 1", "DELETE 0", "CREATE TABLE"], "", ocsf.DELETE, "Delete"),
        (["BEGIN", "UPDATE 1", "COMMIT"], "", ocsf.UPDATE, "Update"),
        (["SET"], "", ocsf.OTHER, "SET"),
        ([], "truncate t", ocsf.DELETE, "Delete"),
        ([], "hunter2", ocsf.UNKNOWN, "Unknown"),
    ],
)
def test_the_activity_is_that_of_the_commands(tags: list[str], sql: str, activity: int, name: str) -> None:
    """By PostgreSQL's tags; of several, what changes most."""
    one = events(start(), asked(1, sql), done(1, *tags))[1]
    assert (one["activity_id"], one["activity_name"]) == (activity, name)


@pytest.mark.parametrize(
    ("ends", "status"),
    [([done(1, "SELECT 1")], "Success"), ([done(1, skipped=True)], "Skipped"), ([], "Unknown")],
)
def test_how_a_statement_went(ends: list[Record], status: str) -> None:
    """What never ran has not succeeded, and of what has no end nobody knows."""
    one = events(start(), asked(1, "SELECT 1"), *ends, end())[1]
    assert one["status"] == status
    assert "status_code" not in one


def test_every_item_is_an_event() -> None:
    """Connects, ends, and what only a database session has; nothing is left out."""
    shown = [(event["activity_name"], event["unmapped"]["kind"]) for event in events(*story())]
    assert shown == [
        ("Connect", "start"),
        ("Prepare", "prepare"),
        ("Query", "statement"),
        ("BEGIN", "statement"),
        ("Update", "statement"),
        ("ROLLBACK", "statement"),
        ("Transaction", "transaction"),
        ("COPY", "statement"),
        ("Write", "copy"),
        ("Delete", "statement"),
        ("Query", "statement"),
        ("Cancel", "cancel"),
        ("Notice", "notice"),
        ("Authorization", "authorization"),
        ("Extended", "extended"),
        ("Write", "statement"),
        ("End", "end"),
    ]


def test_a_refused_connection_names_nobody_as_proven() -> None:
    """The name is what it said, and the event says so."""
    session, items = told(AuthRefused(refusal="expired", user="x", database="orders", address="10.6.6.6"))
    (event,) = [json.loads(line) for line in written(Ocsf(Context(session=session, version="1")), items).splitlines()]
    assert list(ocsf_faults(event)) == []
    assert (event["activity_name"], event["status"], event["actor"]["user"]) == (
        "Connect",
        "Failure",
        {"name": "x", "type": "User", "type_id": 1},
    )
    assert event["unmapped"]["session"]["said_user"] == "x"
    assert event["unmapped"]["refusal"] == "expired"


def test_a_long_statement_is_whole() -> None:
    """A megabyte, in its one place."""
    sql = "SELECT '" + "é" * 1_000_000 + "'"
    session, items = told(start(), asked(1, sql), done(1, "SELECT 1", duration=5 * MS))
    line = written(Ocsf(Context(session=session, version="1")), items).splitlines()[1]
    assert json.loads(line)["query_info"]["query_string"] == sql
    assert len(line) < 2_010_000


def test_what_is_no_record_has_no_number() -> None:
    """As what control's books have of a session; it has a name all the same, and a length of its own kind."""
    session, _ = told(start())
    item = {"seq": None, "at": "2026-11-22T11:00:00.000000Z", "offset_s": -3600.0, "kind": "decision", "text": "yes"}
    (line,) = written(Ocsf(Context(session=session, version="1")), [item | {"duration_s": 600}]).splitlines()
    made = json.loads(line)
    assert list(ocsf_faults(made)) == []
    assert "sequence" not in made["metadata"]
    assert made["metadata"]["uid"] == "ses_1:decision:2026-11-22T11:00:00.000000Z"
    assert made["unmapped"]["duration_s"] == 600
    assert "duration" not in made
