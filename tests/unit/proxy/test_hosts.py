"""What a server announces, held against `target_session_attrs`."""

import struct

import pytest

from proxy.hosts import misfit, parameters


def status(**values: str) -> bytes:
    """ParameterStatus messages."""
    bodies = [name.encode() + b"\0" + value.encode() + b"\0" for name, value in values.items()]
    return b"".join(b"S" + struct.pack("!i", len(body) + 4) + body for body in bodies)


PRIMARY = status(in_hot_standby="off", default_transaction_read_only="off")
READ_ONLY_PRIMARY = status(in_hot_standby="off", default_transaction_read_only="on")
STANDBY = status(in_hot_standby="on", default_transaction_read_only="off")


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("any", [PRIMARY, READ_ONLY_PRIMARY, STANDBY, b""]),
        ("primary", [PRIMARY, READ_ONLY_PRIMARY]),
        ("standby", [STANDBY]),
        ("read-write", [PRIMARY]),
        ("read-only", [READ_ONLY_PRIMARY, STANDBY]),
    ],
)
def test_libpqs_meanings(wanted: str, fits: list[bytes]) -> None:
    """Which servers each of them takes; one that says nothing, because it is too old, is taken for nothing."""
    for announcement in (PRIMARY, READ_ONLY_PRIMARY, STANDBY, b""):
        assert (misfit(announcement, wanted) is None) is (announcement in fits)


def test_parameters() -> None:
    """The last value of a name counts; notices are passed over; nothing is too odd to be read."""
    notice = b"N" + struct.pack("!i", 10) + b"Mhi\0\0\0"
    odd = b"S" + struct.pack("!i", 4)
    announcement = status(a="1", b="x") + notice + status(a="2") + odd
    assert parameters(announcement) == {b"a": b"2", b"b": b"x", b"": b""}
