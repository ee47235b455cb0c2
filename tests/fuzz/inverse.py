"""From a value's recorded text back to its bytes: inverse functions of what the journal writes of binary values.

Written from PostgreSQL's `*recv` functions, not from the code that they check. Never lenient: what does not come out
to the very bytes is not the value.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

Value: TypeAlias = str | int | float | bool | None
Nested: TypeAlias = "str | list[Nested] | None"
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 as PostgreSQL's timestamp


def again(oid: int, value: Value, raw: bytes) -> bool:
    """Whether a value of this type, in its binary format, comes of its text again."""
    if oid == 1700:
        return value == _numeric_text(raw)
    if oid in (700, 701) and math.isnan(float(str(value))):
        return math.isnan(struct.unpack("!f" if oid == 700 else "!d", raw)[0]) == math.isnan(float(str(value)))
    if oid == 16:
        return value in (("t", True) if raw != b"\0" else ("f", False))
    came: bytes = _INVERSE.get(oid, _of_text)(value)
    return came == raw


def _of_text(value: Value) -> bytes:
    return str(value).encode()


def _of_int(form: str) -> Callable[[Value], bytes]:
    return lambda value: struct.pack(form, int(str(value)))


def _of_date(value: Value) -> bytes:
    infinite = {"infinity": 2**31 - 1, "-infinity": -(2**31)}
    text = str(value)
    return struct.pack("!i", infinite[text] if text in infinite else (date.fromisoformat(text) - _EPOCH.date()).days)


def _of_time(value: Value) -> bytes:
    since = datetime.fromisoformat(f"2000-01-01 {_six_digits(value)}") - _EPOCH
    return struct.pack("!q", since // timedelta(microseconds=1))


def _of_timestamp(value: Value) -> bytes:
    infinite = {"infinity": 2**63 - 1, "-infinity": -(2**63)}
    text = _six_digits(value).removesuffix("+00:00")
    since = infinite.get(text)
    return struct.pack(
        "!q", (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1) if since is None else since
    )


def _six_digits(value: Value) -> str:
    """With six digits of a second's fraction: Python 3.11 reads no others but three."""
    text, plus, zone = str(value).partition("+")
    whole, dot, fraction = text.partition(".")
    return f"{whole}{dot}{fraction.ljust(6, '0') if dot else ''}{plus}{zone}"


def _numeric_text(raw: bytes) -> str:
    """As numeric_out, digit by digit."""
    count, weight, sign, scale = struct.unpack_from("!HhHH", raw)
    if sign in (0xC000, 0xD000, 0xF000):
        return {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign]
    digits = dict(enumerate(struct.unpack(f"!{count}H", raw[8:])))
    whole = "".join(f"{digits.get(weight - place, 0):04}" for place in range(max(weight, 0), -1, -1)).lstrip("0")
    fraction = "".join(f"{digits.get(weight + place, 0):04}" for place in range(1, scale // 4 + 2))[:scale]
    return f"{'-' if sign == 0x4000 else ''}{whole or '0'}{'.' if scale else ''}{fraction}"


def array_again(text: str, raw: bytes) -> bool:
    """Whether this array, whose elements say what they are, comes of its text again: shape, NULLs and every element."""
    dimensions, _, oid = struct.unpack_from("!iiI", raw)
    sizes = struct.unpack_from(f"!{2 * dimensions}i", raw, 12)[::2]
    nested, end = _parse(text, 0)
    if end != len(text) or not isinstance(nested, list):
        return False
    elements = list(_flat(nested, sizes)) if dimensions else nested
    at = 12 + 8 * dimensions
    for element in elements:
        size = struct.unpack_from("!i", raw, at)[0]
        at += 4
        one = raw[at : at + max(size, 0)]
        at += len(one)
        if not (element is None and size == -1) and not (isinstance(element, str) and again(oid, element, one)):
            return False
    return bool(at == len(raw))


def _flat(nested: Nested, sizes: tuple[int, ...]) -> Iterator[Nested]:
    """The elements of an array of this shape; ValueError where it is another one."""
    if not sizes:
        yield nested
        return
    if not isinstance(nested, list) or len(nested) != sizes[0]:
        raise ValueError("another shape")
    for one in nested:
        yield from _flat(one, sizes[1:])


def _parse(text: str, at: int) -> tuple[Nested, int]:
    """The element or array that starts at `at`, and where it ends."""
    if text[at] == "{":
        found: list[Nested] = []
        at += 1
        while text[at] != "}":
            one, at = _parse(text, at)
            found.append(one)
            at += text[at] == ","
        return found, at + 1
    if text[at] == '"':
        return _quoted(text, at + 1)
    end = min(place for place in (text.find(",", at), text.find("}", at), len(text)) if place >= 0)
    return (None if text[at:end] == "NULL" else text[at:end]), end


def _quoted(text: str, at: int) -> tuple[str, int]:
    found = []
    while text[at] != '"':
        at += text[at] == "\\"
        found.append(text[at])
        at += 1
    return "".join(found), at + 1


_INVERSE: Mapping[int, Callable[[Value], bytes]] = {
    20: _of_int("!q"),
    21: _of_int("!h"),
    23: _of_int("!i"),
    26: _of_int("!I"),
    700: lambda value: struct.pack("!f", float(str(value))),
    701: lambda value: struct.pack("!d", float(str(value))),
    1082: _of_date,
    1083: _of_time,
    1114: _of_timestamp,
    1184: _of_timestamp,
    2950: lambda value: UUID(str(value)).bytes,
    3802: lambda value: b"\1" + str(value).encode(),
}
