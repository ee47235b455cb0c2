"""Verification tells whole chains from damaged ones, and says where the damage begins."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control.client import checking
from control.client.errors import ClientError
from proxy.contract import proof
from proxy.contract.record import AuthRefused, Chain, SessionEnd, SessionStart, StatementEnd, StatementStart

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key()


def session(name: str = "ses_1", statements: int = 2) -> list[bytes]:
    """A session's lines as a proxy writes them."""
    chain = Chain(name)
    start = SessionStart(
        grant="grt_1",
        person="dba1",
        expires_at=9,
        target="orders",
        database="shop",
        profile="dba",
        upstream_user="app",
        backend_pid=7,
        backend_start="2026-11-22T12:00:00.000001+00:00",
        proxy="edge",
    )
    lines = [chain.seal(start, at=1)]
    for number in range(1, statements + 1):
        asked = StatementStart(statement=number, kind="query", sql="SELECT '\u2028'", state="I", transaction=number)
        lines += [chain.seal(asked, at=2), chain.seal(StatementEnd(statement=number, duration=5), at=3)]
    end = SessionEnd(
        reason="expired", decided_at=4, outcome="nothing open", statements=statements, bytes_in=1, bytes_out=2
    )
    return [*lines, chain.seal_signed(end, KEY, at=5)]


def test_a_whole_session_is_counted() -> None:
    """Records, statements, the proxy and the signature."""
    found = checking.check(session(), [PUBLIC])
    assert (found.session, found.records, found.statements, found.proxy) == ("ses_1", 6, 2, "edge")
    assert found.signature == "good"
    assert found.fault is None


def test_without_a_key_nothing_counts_as_signed() -> None:
    """The chain alone can be made by anybody."""
    assert checking.check(session(), []).signature == "not checked"


REFUSED = AuthRefused(refusal="expired", user="x", database="orders")


def test_a_refused_connection_is_proven_by_its_signature() -> None:
    """Its one record is signed; without a key nobody knows by whom."""
    line = Chain("ses_1").seal_signed(REFUSED, KEY)
    proven = checking.check([line], [PUBLIC])
    assert (proven.fault, proven.refused, proven.signature) == (None, True, "good")
    assert checking.check([line], []).signature == "not checked"


@pytest.mark.parametrize(
    "line",
    [
        Chain("ses_1").seal(REFUSED),
        Chain("ses_1").seal_signed(REFUSED, Ed25519PrivateKey.from_private_bytes(b"o" * 32)),
    ],
    ids=["unsigned", "another key"],
)
def test_a_refused_connection_that_nobody_signed_proves_nothing(line: bytes) -> None:
    """Anybody could have written it."""
    found = checking.check([line], [PUBLIC])
    assert (found.fault, found.seq) == ("the last record is not signed by this proxy", 0)
    assert found.signature == "not checked"


@pytest.mark.parametrize(
    ("damage", "seq"),
    [
        (lambda lines: [*lines[:1], lines[1].replace(b"SELECT", b"DELETE"), *lines[2:]], 2),
        (lambda lines: [*lines[:2], *lines[3:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 1),
        (lambda lines: lines[:-1], 5),
        (lambda lines: [*lines[:3], b"not a record", *lines[3:]], 3),
        (lambda lines: [*lines, lines[-1]], 6),
        (lambda lines: lines[:0], 0),
    ],
    ids=["edited", "deleted", "reordered", "cut", "garbage", "appended", "empty"],
)
def test_damage_is_found_at_its_first_record(damage: Callable[[list[bytes]], list[bytes]], seq: int) -> None:
    """An edit, a deletion, a reordering, a cut tail, garbage, an addition and nothing at all."""
    found = checking.check(damage(session()), [PUBLIC])
    assert found.fault
    assert found.seq == seq


def test_another_key_is_found() -> None:
    """A chain made anew by somebody else is whole, but not the proxy's; any key that the proxy has had will do."""
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32).public_key()
    found = checking.check(session(), [other])
    assert (found.fault, found.seq) == ("the last record is not signed by this proxy", 5)
    assert checking.check(session(), [other, PUBLIC]).signature == "good"


def test_another_session_is_not_the_one_asked_for() -> None:
    """A store that answers with some other whole session is found out."""
    assert checking.check(session("ses_2"), [PUBLIC], session="ses_1").fault == "a record of session ses_2"


def test_a_file_may_hold_several_sessions() -> None:
    """As a journal's segment does; a separator character in the SQL ends no line."""
    mixed = [line + b"\n" for pair in zip(session("ses_1"), session("ses_2"), strict=True) for line in pair]
    sessions = checking.by_session(mixed)
    assert list(sessions) == ["ses_1", "ses_2"]
    assert all(checking.check(lines, [PUBLIC]).fault is None for lines in sessions.values())


def test_a_bad_line_of_a_file_is_named() -> None:
    """By its number, as an editor counts."""
    with pytest.raises(ClientError, match="line 2 is bad"):
        checking.by_session([session()[0] + b"\n", b"{}\n"])


def test_public_keys_are_read_in_every_form(tmp_path: Path) -> None:
    """The API's text, a file with it, and PEM."""
    text = proof.public_text(PUBLIC)
    (tmp_path / "raw").write_text(text + "\n")
    (tmp_path / "pem").write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for given in (text, str(tmp_path / "raw"), str(tmp_path / "pem")):
        assert checking.public_key(given) == PUBLIC


@pytest.mark.parametrize("text", ["", "short", "ä" * 43, "/no/such/file", "x" * 10_000])
def test_what_is_no_key_is_said_to_be_none(text: str) -> None:
    """In words."""
    with pytest.raises(ClientError, match="no proxy's public key"):
        checking.public_key(text)
