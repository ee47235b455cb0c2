"""What goes upstream of a startup packet, and who it is for."""

import pytest

from proxy.parameters import NAME_BYTES, asked_for, upstream_parameters
from proxy.wire.messages import startup_message
from proxy.wire.startup import StartupMessage, parse_startup
from tests.harness.tokens import grant

GRANT = grant(id="grt_1", person="dba1", profile="app")


def started(*parameters: tuple[bytes, bytes]) -> StartupMessage:
    """A startup packet with these parameters."""
    return parse_startup(startup_message([(b"user", b"dba1"), *parameters])[8:], 0x30000)


def sent(*parameters: tuple[bytes, bytes], show_person: bool = False) -> list[tuple[bytes, bytes]]:
    """What PostgreSQL is told then."""
    return upstream_parameters(started(*parameters), GRANT, user="app", database="db", show_person=show_person)


def test_whose_words_they_are() -> None:
    """The client's own as they came; what is ours to say, it cannot; nothing of the protocol's options."""
    said = [(b"options", b"-c a=b"), (b"curfew.person", b"mallory"), (b"_pq_.x", b"1"), (b"a.b", b"\xff")]
    assert sent(*said, (b"database", b"orders")) == [
        (b"user", b"app"),
        (b"database", b"db"),
        (b"options", b"-c a=b"),
        (b"a.b", b"\xff"),
        (b"curfew.person", b"dba1"),
        (b"curfew.grant", b"grt_1"),
    ]


@pytest.mark.parametrize(
    ("application", "name"),
    [
        (b"psql", b"psql [grt_1 dba1]"),
        (b"", b"[grt_1 dba1]"),
        (b"x" * 100, b"x" * 50 + b" [grt_1 dba1]"),
        (b"x" * 49 + "\u00e9".encode(), b"x" * 49 + b" [grt_1 dba1]"),
    ],
    ids=["usual", "none", "long", "cut in a letter"],
)
def test_the_person_in_the_applications_name(application: bytes, name: bytes) -> None:
    """Behind what the client calls itself, and never cut for it."""
    said = dict(sent((b"application_name", application), show_person=True))
    assert said[b"application_name"] == name
    assert len(name) <= NAME_BYTES


def test_a_long_persons_name() -> None:
    """PostgreSQL has 63 bytes: the grant is whole, and who it is for can be looked up."""
    long = grant(id="grt_1", person="p" * 80, profile="app")
    said = upstream_parameters(started(), long, user="app", database="db", show_person=True)
    assert dict(said)[b"application_name"] == b"[grt_1 " + b"p" * 55 + b"]"


def test_what_is_recorded_of_them() -> None:
    """What can change what a statement means, readable; not who it is, nor what was not passed on."""
    said = [(b"options", b"-c a=b"), (b"curfew.person", b"mallory"), (b"_pq_.x", b"1"), (b"a.b", b"\xff")]
    assert asked_for(started(*said, (b"database", b"orders"))) == {"options": "-c a=b", "a.b": "\\xff"}
