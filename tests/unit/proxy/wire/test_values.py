"""Bound values. Their binary forms against PostgreSQL itself: tests/integration/wire/test_values.py."""

import base64
import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contract.record import Parameter
from proxy.wire import values
from proxy.wire.values import decode

BINARY_OIDS = sorted(values._BINARY)


def array(element: int, sizes: list[int], items: list[bytes | None], *, start: int = 1) -> bytes:
    """An array as array_send makes it."""
    head = struct.pack("!iiI", len(sizes), 0, element) + b"".join(struct.pack("!ii", size, start) for size in sizes)
    return head + b"".join(
        struct.pack("!i", -1) if item is None else struct.pack("!i", len(item)) + item for item in items
    )


def numeric(weight: int, sign: int, scale: int, *digits: int) -> bytes:
    """A numeric as numeric_send makes it."""
    return struct.pack(f"!HhHH{len(digits)}H", len(digits), weight, sign, scale, *digits)


def test_null() -> None:
    """NULL is None and not an empty string, in either format and of any type."""
    for form in (0, 1, 7):
        assert decode(23, form, None) == Parameter(type=23)
    assert decode(25, 0, b"") == Parameter(type=25, value="")


def test_text_format() -> None:
    """Text is text, whatever the type says."""
    assert decode(23, 0, b"42") == Parameter(type=23, value="42")
    assert decode(0, 0, "ünï\0".encode()) == Parameter(type=0, value="ünï\0")
    assert decode(25, 0, b"\xff\xfe") == Parameter(type=25, base64="//4=")


@pytest.mark.parametrize(
    ("oid", "raw", "value"),
    [
        (16, b"\1", True),
        (16, b"\0", False),
        (20, b"\x80" + bytes(7), -(2**63)),
        (21, b"\xff\xfe", -2),
        (23, b"\x7f\xff\xff\xff", 2**31 - 1),
        (26, b"\xff\xff\xff\xff", 2**32 - 1),
        (18, b"r", "r"),
        (25, "ünï".encode(), "ünï"),
        (700, struct.pack("!f", 0.1), 0.1),
        (700, b"\x7f\x7f\xff\xff", 3.4028235e38),
        (700, struct.pack("!f", float("inf")), "Infinity"),
        (701, struct.pack("!d", 0.1), 0.1),
        (701, struct.pack("!d", float("nan")), "NaN"),
        (701, struct.pack("!d", float("-inf")), "-Infinity"),
        (1082, struct.pack("!i", -1), "1999-12-31"),
        (1082, b"\x7f\xff\xff\xff", "infinity"),
        (1083, struct.pack("!q", 1), "00:00:00.000001"),
        (1114, struct.pack("!q", -1), "1999-12-31 23:59:59.999999"),
        (1114, struct.pack("!q", -(2**63)), "-infinity"),
        (1184, struct.pack("!q", 10**6), "2000-01-01 00:00:01+00:00"),
        (1700, numeric(1, 0x4000, 3, 1, 2345, 6780), "-12345.678"),
        (1700, numeric(-2, 0, 6, 12), "0.000000"),
        (1700, numeric(-2, 0, 8, 12), "0.00000012"),
        (1700, numeric(3, 0, 0, 1), "1000000000000"),
        (1700, numeric(0, 0, 2), "0.00"),
        (1700, numeric(0, 0xC000, 0), "NaN"),
        (2950, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (3802, b'\1{"a": 1}', '{"a": 1}'),
        (1007, array(23, [3], [b"\0\0\0\1", None, b"\xff\xff\xff\xff"]), "{1,NULL,-1}"),
        (1009, array(25, [2, 2], [b"a b", b"null", b'"\\', b"x"]), '{{"a b","null"},{"\\"\\\\",x}}'),
        (1000, array(16, [2], [b"\1", b"\0"]), "{t,f}"),
        (1007, array(23, [], []), "{}"),
    ],
)
def test_binary_format(oid: int, raw: bytes, value: object) -> None:
    """The common types in their binary format."""
    decoded = decode(oid, 1, raw)
    assert decoded == Parameter(type=oid, value=value)  # type: ignore[arg-type]  # of the table above
    assert type(decoded.value) is type(value)


@pytest.mark.parametrize(
    ("oid", "raw"),
    [
        (0, b"abc"),
        (17, b"bytes"),
        (600, bytes(16)),
        (16, b""),
        (16, b"\1\1"),
        (23, b"\0\0\1"),
        (20, bytes(9)),
        (25, b"\xff"),
        (18, b""),
        (18, b"\0"),
        (18, b"ab"),
        (700, b"\x7f\xc0\0\1"),
        (701, b"\xff\xf8" + bytes(6)),
        (701, bytes(4)),
        (1082, struct.pack("!i", 2**31 - 2)),
        (1083, struct.pack("!q", -1)),
        (1184, struct.pack("!q", 2**62)),
        (1700, b""),
        (1700, struct.pack("!HhHH", 2, 0, 0, 0)),
        (1700, numeric(0, 0, 0, 10_000)),
        (1700, numeric(32_000, 0, 0, 1)),
        (1700, numeric(0, 0x1234, 0, 1)),
        (2950, bytes(15)),
        (3802, b"\2{}"),
        (3802, b""),
        (1007, array(23, [2], [b"\0\0\0\1"])),
        (1007, array(23, [1], [b"\0\0\0\1"], start=0)),
        (1007, array(1007, [1], [b"\0\0\0\1"])),
        (1007, array(600, [1], [bytes(16)])),
        (1007, array(23, [1] * 7, [b"\0\0\0\1"])),
        (1007, array(23, [-1], [])),
        (1007, array(23, [1], [b"\0\0\0\1"])[:-1]),
        (1009, array(25, [1], []) + b"\xff\xff\xff\xf0"),
        (1007, array(23, [20_000], [b"\0\0\0\1"] * 20_000)),
    ],
)
def test_kept_as_it_came(oid: int, raw: bytes) -> None:
    """What is malformed, unknown or too long to unfold is base64, byte for byte."""
    assert decode(oid, 1, raw) == Parameter(type=oid, base64=base64.b64encode(raw).decode(), binary=True)


def test_unknown_format() -> None:
    """So is a format code that does not exist."""
    assert decode(25, 2, b"a") == Parameter(type=25, base64="YQ==")


@given(st.sampled_from([*BINARY_OIDS, 0, 17, 99_999]), st.sampled_from([0, 1, 2]), st.binary(max_size=80))
def test_never_raises_and_always_encodes(oid: int, form: int, raw: bytes) -> None:
    """Any bytes of any type become a value that JSON can carry and that is not NULL, or are kept exactly."""
    decoded = decode(oid, form, raw)
    line = json.loads(msgspec.json.encode(decoded))
    assert line.get("value") is not None or base64.b64decode(line["base64"]) == raw


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float4_is_exact(value: float) -> None:
    """The shortest text of a float4 is still that float4."""
    decoded = decode(700, 1, struct.pack("!f", value)).value
    assert isinstance(decoded, float)
    assert struct.pack("!f", decoded) == struct.pack("!f", value)


def test_elements_of_no_dimension() -> None:
    """PostgreSQL refuses such an array; every byte of it is kept."""
    raw = array(23, [], [struct.pack("!i", 4), struct.pack("!i", 7)])
    assert decode(1007, 1, raw) == Parameter(type=1007, base64=base64.b64encode(raw).decode(), binary=True)
