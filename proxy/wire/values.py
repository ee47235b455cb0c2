# cython: annotation_typing=False, binding=False
"""Bound values as a reader can read them: from a type's OID, a format code and bytes to a record's Parameter.

Owns the text form of PostgreSQL's common types in their binary format (the `*send` functions of its source). A value
that is not well formed, or of a type not known here, is kept exactly, as base64. Never raises, never loses a byte.
"""

import base64
import math
import re
import struct
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from proxy.contract.record import Parameter

Value: TypeAlias = str | int | float | bool
_Decoder: TypeAlias = Callable[[bytes], Value]

TEXT, BINARY = 0, 1
"""The two format codes."""

_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 PostgreSQL's epoch, without a zone as `timestamp` has none
_FLOAT4_MOST = 3.4028235e38
_POWERS = 4
"""Decimal digits in one of `numeric`'s."""
_NUMERIC_SPECIAL = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_NUMERIC_SIGN = {0x0000: "", 0x4000: "-"}
_NUMERIC_MOST_DIGITS = 2_000
"""A `numeric` of more base-10000 digits stays base64: its text could be far longer than its bytes."""
_LARGEST_ARRAY = 65_536
"""Bytes: a larger one stays base64, since it must not hold up the other sessions."""
_MOST_DIMENSIONS = 6
"""MAXDIM of PostgreSQL's c.h."""
_ARRAYS = (
    *(143, 199, 1000, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028),
    *(1115, 1182, 1183, 1185, 1231, 2951, 3807),
)
"""Arrays of the types below; what their elements are, they say themselves."""
_QUOTED = re.compile(r'[{},"\\\s]')


class _Malformed(Exception):  # noqa: N818 says what the value is
    """Not a value of this type."""


def decode(oid: int, form: int, raw: bytes | None) -> Parameter:
    """The value that a client bound: text where it is text, a plain value where its type is known, else base64."""
    if raw is None:
        return Parameter(type=oid)
    decoder = _text if form == TEXT else _BINARY.get(oid) if form == BINARY else None
    if decoder is not None:
        try:
            return Parameter(type=oid, value=decoder(raw))
        except (_Malformed, struct.error, UnicodeDecodeError, ValueError, OverflowError):
            pass  # It is PostgreSQL that judges values; here it is kept as it came.
    return Parameter(type=oid, base64=base64.b64encode(raw).decode(), binary=form == BINARY)


def _text(raw: bytes) -> str:
    return raw.decode()


def _int(size: int) -> _Decoder:
    def decode_int(raw: bytes) -> int:
        if len(raw) != size:
            raise _Malformed
        return int.from_bytes(raw, signed=True)

    return decode_int


def _oid(raw: bytes) -> int:
    return int(struct.unpack("!I", raw)[0])


def _bool(raw: bytes) -> bool:
    if len(raw) != 1:
        raise _Malformed
    return raw != b"\0"


def _char(raw: bytes) -> str:
    """One byte; the text form of others is another one in each version (charout)."""
    if len(raw) != 1 or not 0x20 < raw[0] < 0x7F:  # noqa: PLR2004 ASCII's printable letters
        raise _Malformed
    return raw.decode()


def _float8(raw: bytes) -> float | str:
    return _finite(struct.unpack("!d", raw)[0], raw, b"\x7f\xf8\0\0\0\0\0\0")


def _float4(raw: bytes) -> float | str:
    """The shortest decimal that is this float4, as PostgreSQL shows it: 0.1 and not 0.10000000149011612."""
    value = struct.unpack("!f", raw)[0]
    for digits in range(1, 9):
        shortest = float(f"{value:.{digits}g}")
        if abs(shortest) <= _FLOAT4_MOST and struct.pack("!f", shortest) == raw:
            return shortest
    return _finite(float(f"{value:.9g}"), raw, b"\x7f\xc0\0\0")


def _finite(value: float, raw: bytes, not_a_number: bytes) -> float | str:
    # JSON has no other numbers: they would come out as null, which is SQL's NULL here.
    if math.isfinite(value):
        return value
    if math.isnan(value):
        if raw != not_a_number:  # There are many, and PostgreSQL keeps the one it gets.
            raise _Malformed
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _jsonb(raw: bytes) -> str:
    if raw[:1] != b"\1":
        raise _Malformed
    return raw[1:].decode()


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw))


def _date(raw: bytes) -> str:
    days = struct.unpack("!i", raw)[0]
    if days in (2**31 - 1, -(2**31)):
        return "infinity" if days > 0 else "-infinity"
    return date.fromordinal(_EPOCH.toordinal() + days).isoformat()


def _time(raw: bytes) -> str:
    microseconds = struct.unpack("!q", raw)[0]
    if not 0 <= microseconds < 86_400_000_000:  # noqa: PLR2004 a day; 24:00:00 has no form in Python
        raise _Malformed
    return _short((_EPOCH + timedelta(microseconds=microseconds)).time().isoformat())


def _timestamp(raw: bytes) -> str:
    microseconds = struct.unpack("!q", raw)[0]
    if microseconds in (2**63 - 1, -(2**63)):
        return "infinity" if microseconds > 0 else "-infinity"
    return _short((_EPOCH + timedelta(microseconds=microseconds)).isoformat(sep=" "))


def _timestamptz(raw: bytes) -> str:
    text = _timestamp(raw)
    return text if "infinity" in text else text + "+00:00"


def _short(text: str) -> str:
    return text.rstrip("0") if "." in text else text


def _numeric(raw: bytes) -> str:
    """Text, not a float: every digit counts. Base-10000 digits, the first of weight 10000**weight."""
    count, weight, sign, scale = struct.unpack_from("!HhHH", raw)
    digits = struct.unpack(f"!{count}H", raw[8:])
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    if sign not in _NUMERIC_SIGN or scale > 0x3FFF or any(digit > 9999 for digit in digits):  # noqa: PLR2004 numeric.c
        raise _Malformed
    if count > _NUMERIC_MOST_DIGITS or abs(weight) > _NUMERIC_MOST_DIGITS:
        raise _Malformed
    before = "".join(f"{digits[at] if at < count else 0:04}" for at in range(weight + 1)).lstrip("0") or "0"
    behind = "0" * _POWERS * max(0, -weight - 1) + "".join(f"{digit:04}" for digit in digits[max(0, weight + 1) :])
    fraction = behind[:scale].ljust(scale, "0")
    return f"{_NUMERIC_SIGN[sign]}{before}{'.' if scale else ''}{fraction}"


def _array(raw: bytes) -> str:
    """The text form, `{1,NULL,"a b"}`, of an array whose subscripts start at 1."""
    dimensions, _, element = struct.unpack_from("!iiI", raw)
    decoder = _BINARY.get(element)
    if decoder is None or decoder is _array or not 0 <= dimensions <= _MOST_DIMENSIONS or len(raw) > _LARGEST_ARRAY:
        raise _Malformed
    bounds = struct.unpack_from(f"!{2 * dimensions}i", raw, 12)
    sizes = bounds[::2]
    if any(size < 1 for size in sizes) or any(start != 1 for start in bounds[1::2]):
        raise _Malformed
    elements = _elements(raw, 12 + 8 * dimensions, decoder)
    if len(elements) != (math.prod(sizes) if dimensions else 0):
        raise _Malformed
    for size in reversed(sizes):
        elements = [f"{{{','.join(elements[at : at + size])}}}" for at in range(0, len(elements), size)]
    return elements[0] if elements else "{}"


def _elements(raw: bytes, at: int, decoder: _Decoder) -> list[str]:
    elements = []
    while at < len(raw):
        size = struct.unpack_from("!i", raw, at)[0]
        at += 4
        if size < -1 or at + size > len(raw):
            raise _Malformed
        elements.append("NULL" if size == -1 else _element(decoder(raw[at : at + size])))
        at += max(size, 0)
    return elements


def _element(value: Value) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    text = str(value)
    if isinstance(value, str) and (_QUOTED.search(text) or text.upper() in {"", "NULL"}):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


_BINARY: dict[int, _Decoder] = {
    16: _bool,
    18: _char,  # "char"
    19: _text,  # name
    20: _int(8),
    21: _int(2),
    23: _int(4),
    25: _text,
    26: _oid,
    114: _text,  # json
    142: _text,  # xml
    700: _float4,
    701: _float8,
    705: _text,  # unknown
    1042: _text,  # bpchar
    1043: _text,  # varchar
    1082: _date,
    1083: _time,
    1114: _timestamp,
    1184: _timestamptz,
    1700: _numeric,
    2950: _uuid,
    3802: _jsonb,
    **dict.fromkeys(_ARRAYS, _array),
}
"""By the OID of pg_type.dat; these never change. Not here: bytea (17), whose form is base64 anyway."""
