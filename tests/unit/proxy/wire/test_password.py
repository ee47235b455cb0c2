"""The password message: PROTOCOL.md rows 37 and 42."""

import pytest

from proxy.wire import startup
from proxy.wire.startup import StartupError


def test_whole() -> None:
    """What stands before its one NUL; bytes that are no text make a token that nobody signed."""
    assert startup.parse_password(ord("p"), b"secret\0") == "secret"
    assert startup.parse_password(ord("p"), b"\xff\0") == "\ufffd"
    assert startup.parse_password(ord("p"), b"\0") == ""


@pytest.mark.parametrize(
    ("kind", "body"),
    [(ord("Q"), b"secret\0"), (ord("p"), b""), (ord("p"), b"secret"), (ord("p"), b"a\0b\0"), (ord("p"), b"a\0\0")],
)
def test_anything_else(kind: int, body: bytes) -> None:
    """Another message, or a password that ends early or not at all, is refused, and not repeated to anybody."""
    with pytest.raises(StartupError) as raised:
        startup.parse_password(kind, body)
    assert raised.value.sqlstate == "08P01"
    assert "secret" not in str(raised.value)
