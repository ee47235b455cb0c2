"""What the wire layer knows of replication: the startup parameter, and commands that no transaction holds."""

import pytest

from proxy.wire import startup
from proxy.wire.commits import may_commit_inside
from proxy.wire.messages import startup_message
from proxy.wire.outcome import Scene, outcome
from proxy.wire.startup import StartupError
from proxy.wire.tracker import Tracker


def asked(*values: bytes) -> str | None:
    """What a startup packet with these values of `replication`, in order, asks for."""
    pairs = [(b"replication", value) for value in values]
    return startup.parse_startup(startup_message([(b"user", b"u"), *pairs])[8:], 0x30000).replication


@pytest.mark.parametrize("value", [b"true", b"TRUE", b"t", b"tr", b"yes", b"Y", b"on", b"On", b"1"])
def test_true(value: bytes) -> None:
    """As parse_bool of PostgreSQL (bool.c) reads it: a walsender in no database."""
    assert asked(value) == "physical"


@pytest.mark.parametrize("value", [b"false", b"F", b"no", b"n", b"off", b"OF", b"0"])
def test_false(value: bytes) -> None:
    """An ordinary session, as where nothing was said."""
    assert asked(value) is asked() is None


@pytest.mark.parametrize("value", [b"", b"o", b"2", b"01", b"onn", b"tru ", b" true", b"DATABASE", b"databas", b"\xff"])
def test_neither(value: bytes) -> None:
    """22023, and the value is not repeated. `database` alone is case-sensitive."""
    with pytest.raises(StartupError, match=r'^invalid value for parameter "replication"$') as caught:
        asked(value)
    assert caught.value.sqlstate == "22023"
    assert not caught.value.silent


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ([b"database"], "logical"),
        ([b"true", b"database"], "logical"),
        ([b"database", b"true"], "logical"),
        ([b"database", b"off"], None),
        ([b"true", b"off"], None),
        ([b"off", b"true"], "physical"),
    ],
)
def test_more_than_one(values: list[bytes], meant: str | None) -> None:
    """Each is read in turn, and a database is not taken back (ProcessStartupPacket)."""
    assert asked(*values) == meant


def test_one_bad_value_among_good_ones() -> None:
    """PostgreSQL fails at the first that it cannot read, whatever follows."""
    with pytest.raises(StartupError):
        asked(b"maybe", b"true")


@pytest.mark.parametrize(
    "sql",
    [
        'CREATE_REPLICATION_SLOT "s" LOGICAL test_decoding',
        "drop_replication_slot s WAIT",
        "ALTER_REPLICATION_SLOT s (FAILOVER)",
        "SELECT pg_create_logical_replication_slot('s', 'test_decoding')",
        "SELECT pg_create_physical_replication_slot('s')",
        "SELECT pg_copy_logical_replication_slot('s', 't')",
        "SELECT pg_drop_replication_slot('s')",
        "SELECT pg_replication_slot_advance('s', '0/1')",
    ],
)
def test_slots_are_in_no_transaction(sql: str) -> None:
    """Nobody can say of one that was being made when its session ended that it was rolled back."""
    assert may_commit_inside(sql)
    tracker = Tracker()
    tracker.requests([(ord("Q"), sql.encode() + b"\0")], 0)
    assert [step.sql for step in tracker.open] == [sql]
    assert outcome(tracker, Scene.of(tracker), fate="none") == "unknown"


@pytest.mark.parametrize("sql", ["START_REPLICATION SLOT s LOGICAL 0/0", "BASE_BACKUP ( LABEL 'x')"])
def test_streaming_changes_nothing(sql: str) -> None:
    """A stream that was cut leaves nothing behind."""
    assert not may_commit_inside(sql)
