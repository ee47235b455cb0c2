"""Where replication connections lead, who may make one, and what the person who may not is told."""

import pytest

from proxy import replication
from proxy.contract.settings import AccessProfile
from proxy.wire.messages import startup_message
from proxy.wire.startup import StartupMessage, parse_startup
from tests.harness.tokens import grant

GRANT = grant(target="orders")
NONE, ALL = AccessProfile(user="u"), AccessProfile(user="u", replication="all")


def asks(kind: str, database: str | None = None) -> StartupMessage:
    """A startup packet with `replication` of this value."""
    named = [] if database is None else [(b"database", database.encode())]
    parameters = [(b"user", b"dba1"), *named, (b"replication", kind.encode())]
    return parse_startup(startup_message(parameters)[8:], 0x30000)


@pytest.mark.parametrize("database", [None, "", "replication", "orders", "orders/app"])
def test_physical_replication_is_in_no_database(database: str | None) -> None:
    """What PostgreSQL's tools name, or nothing, leads to the grant's target."""
    assert replication.destination(asks("true", database), GRANT) == ("orders", None)


def test_another_target_is_not_taken_for_the_granted_one() -> None:
    """Admission will refuse it."""
    assert replication.destination(asks("true", "stock"), GRANT) == ("stock", None)
    assert replication.destination(asks("true", "replication/x"), GRANT) == ("replication", None)


@pytest.mark.parametrize("kind", ["database", "off"])
def test_others_name_their_database(kind: str) -> None:
    """A target of the name `replication` is one like any other, and there is no default."""
    assert replication.destination(asks(kind, "orders/app"), GRANT) == ("orders", "app")
    assert replication.destination(asks(kind, "orders"), GRANT) == ("orders", "")
    assert replication.destination(asks(kind, "replication"), GRANT) == ("replication", "")
    assert replication.destination(asks(kind), GRANT) == ("dba1", "")


def test_both_must_allow_it() -> None:
    """The profile, and the grant by being for every database."""
    one = grant(databases=("orders",))
    assert replication.allowed(GRANT, ALL)
    assert not replication.allowed(one, ALL)
    assert not replication.allowed(GRANT, NONE)
    assert not replication.allowed(grant(databases=("orders", "*")), ALL)


def test_what_is_told() -> None:
    """What stands in the way, and who can change that."""
    told = replication.not_allowed(GRANT, NONE)
    assert told.hint == 'An operator can: replication = "all" in [targets.orders.access.readonly].'
    told = replication.not_allowed(grant(databases=("orders",)), ALL)
    assert told.detail == f"They read the whole server, and grant {GRANT.id} is not for all databases."
    assert "curfew request orders readonly --database '*'" in (told.hint or "")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("t", [(b"database", b"replication"), (b"replication", b"true")]),
        ("database", [(b"database", b"app"), (b"replication", b"database")]),
        ("off", [(b"database", b"app")]),
    ],
)
def test_what_postgresql_is_told(kind: str, sent: list[tuple[bytes, bytes]]) -> None:
    """What was judged, in words that cannot be read otherwise."""
    assert replication.parameters(asks(kind, "orders/app"), "" if kind == "t" else "app") == sent
