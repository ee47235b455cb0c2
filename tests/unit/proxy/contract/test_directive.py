"""Directives: each reads back as it was written, and a line that is none is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.directive import (
    AnyDirective,
    DirectiveError,
    Heartbeat,
    Keys,
    Kill,
    Revocation,
    Revoke,
    Snapshot,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "directive",
    [
        Revoke(cursor=1, at=2, grant="grt_1", expires_at=3.5, by="boss", reason="äöü\n\u2028"),
        Kill(cursor=2, at=2, session="ses_1", by="boss"),
        Keys(cursor=3, at=2, jwks='{"keys": []}'),
        Snapshot(
            cursor=4, at=2, revoked=[Revocation(grant="grt_1", expires_at=3.5, by="boss", decided_at=1)], jwks="{}"
        ),
        Heartbeat(cursor=5, at=2**62),
    ],
    ids=lambda directive: type(directive).__name__,
)
def test_every_directive_reads_back(directive: AnyDirective) -> None:
    """One line each."""
    line = encode(directive)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == directive


def test_fields_of_a_later_version_are_passed_over() -> None:
    """A proxy may be older than control."""
    assert decode(b'{"type":"heartbeat","cursor":1,"at":2,"new":true}') == Heartbeat(cursor=1, at=2)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b'{"type":"heartbeat"}',
        b'{"type":"unknown","cursor":1,"at":2}',
        b'{"cursor":1,"at":2}',
        b'{"type":"heartbeat","cursor":"1","at":2}',
        b'{"type":"heartbeat","cursor":1,"at":true}',
        b'{"type":"revoke","cursor":1,"at":2,"grant":null,"expires_at":1,"by":"x"}',
        b'{"type":"revoke","cursor":1,"at":2,"grant":"g","expires_at":NaN,"by":"x"}',
        b'{"type":"heartbeat","cursor":1,"at":2}{"type":"heartbeat","cursor":1,"at":2}',
        b'{"type":"kill","cursor":1,"at":2,"session":"\xff","by":"x"}',
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line)[:60],
)
def test_what_is_no_directive_is_an_error(line: bytes) -> None:
    """An unknown type above all: what control asks for must not be passed over in silence."""
    with pytest.raises(DirectiveError):
        decode(line)


@given(st.binary(max_size=300))
def test_no_bytes_break_reading(line: bytes) -> None:
    """DirectiveError is all that a bad line can cause."""
    with pytest.raises(DirectiveError):
        decode(line)
